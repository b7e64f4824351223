"""Claims, stated in one line each and checked in code."""

import re

import numpy as np

from wnlib import validate

VERDICTS = ("confirmed", "refined", "not observed")
TIERS = {
    "paper": "What the paper says",
    "law": "What is derived here, measured and proved",
    "check": "Identities, sanity and the machine",
}

NUMBER = r"([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|nan|inf)"
BOUND = re.compile(rf"\s*(?:([≤≥])\s*{NUMBER}|=\s*{NUMBER}(?:\s*±\s*{NUMBER}\s*(%?))?)\s*", re.IGNORECASE)


def check(tier, id, statement, source, measured, holds, *, statistic="median", refines=""):
    """Return the claim as a record: {tier, id, statement, source, measured, expected, holds, verdict}.

    `holds` says, before anybody looks, what must be true of `measured`: "= 1 ± 2%", "= -1 ± 0.03", "= 3", "≤ 1e-12" or
    "≥ 0.95". `measured` is a number, or an array of one over seeds; or a dict of them, one for each condition, each of
    which must hold. Over seeds the `statistic` is held against the bound: "median", with the quartiles on record;
    "mean", the mean and two standard errors on either side of it, all within the bound; or "worst", the seed that is
    farthest off, so that all of them hold. The verdict is `confirmed`, or `refined` where `refines` says how the
    paper's statement is sharper or narrower here, or `not observed`. A NaN never holds. Raises ValueError for a tier,
    a bound or a statistic that is none of these, and for nothing measured.
    """
    validate.choice("tier", tier, TIERS)
    validate.choice("statistic", statistic, STATISTICS)
    sign, expected, allowed, text = _bound(id, holds)
    conditions = measured if isinstance(measured, dict) else {"": measured}
    shown = []
    for label, values in conditions.items():
        values = np.atleast_1d(np.asarray(values, dtype=float))
        if values.ndim > 1 or not values.size:
            at = f" at {label}" if label else ""
            raise ValueError(
                f"measured of {id!r}{at} has shape {values.shape}: must be a number or an array over seeds; give one "
                "for each condition in a dict"
            )
        shown.append(STATISTICS[statistic](values, expected, sign))
    if not shown:
        raise ValueError(f"measured of {id!r} = {{}}: must hold at least one condition")
    # The low and high ends count where they belong to the statistic, as a mean's error does.
    judged = [number for row in shown for number in (row if statistic == "mean" else row[:1])]
    observed = all(_holds(number, sign, expected, allowed) for number in judged)
    value, low, high = zip(*shown, strict=True)
    seeds = max(np.size(values) for values in conditions.values())
    return {
        "tier": tier,
        "id": id,
        "statement": refines if observed and refines else statement,
        "source": source,
        "measured": {
            "labels": [label for label in conditions if label],
            "statistic": statistic,
            "value": _plain(value),
            "spread": [_plain(low), _plain(high)] if seeds > 1 and statistic != "worst" else None,
            "seeds": seeds,
        },
        "expected": _plain([expected])[0],
        "holds": text,
        "verdict": ("refined" if refines else "confirmed") if observed else "not observed",
    }


def _median(values, expected, sign):
    with np.errstate(invalid="ignore"):  # of infinities
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return median, low, high


def _mean(values, expected, sign):
    error = 2 * np.std(values, ddof=1) / np.sqrt(values.size) if values.size > 1 else 0.0
    return np.mean(values), np.mean(values) - error, np.mean(values) + error


def _worst(values, expected, sign):
    far = {"≤": values, "≥": -values, "=": np.abs(values - expected)}[sign]
    worst = values[np.argmax(np.where(np.isnan(far), np.inf, far))]
    return worst, worst, worst


STATISTICS = {"median": _median, "mean": _mean, "worst": _worst}


def _bound(id, text):
    """(sign, expected value, allowed deviation, the text as it is shown); ValueError for what is no bound."""
    found = BOUND.fullmatch(text) if isinstance(text, str) else None
    if not found:
        raise ValueError(
            f"holds of {id!r} = {validate.shown(text)}: must read like '= 1 ± 2%', '= -1 ± 0.03', '≤ 1e-12' or '≥ 0.95'"
        )
    sign, limit, middle, allowed, percent = found.groups()
    expected = float(limit or middle)
    allowed = float(allowed or 0) * (abs(expected) / 100 if percent else 1)
    return sign or "=", expected, allowed, " ".join(text.split())


def _holds(value, sign, expected, allowed):
    if sign == "=":
        # A boundary counts: 1.02 is within 2% of 1, whatever its last bit.
        return bool(abs(value - expected) <= allowed * (1 + 1e-12))
    return bool(value <= expected if sign == "≤" else value >= expected)


def show(claims):
    """Return the claims' table for Jupyter to display as the last value of a cell."""
    from IPython.display import Markdown

    return Markdown(table(claims))


def table(claims):
    """Return the claims as a Markdown table, for the end of a notebook."""
    rows = [[c["tier"], c["id"], c["statement"], c["source"], measured(c), c["holds"], c["verdict"]] for c in claims]
    return markdown(["tier", "claim", "statement", "source", "measured", "expected", "verdict"], rows)


def measured(claim, most=None):
    """Return what was measured as text; of more than `most` conditions only the range."""
    found = claim["measured"]
    values = [value for value in found["value"] if value is not None]
    if most is not None and len(found["value"]) > most and values:
        missing = len(found["value"]) - len(values)
        return f"{_short(min(values))} … {_short(max(values))}" + (f", {missing} —" if missing else "")
    parts = []
    for k, (label, value) in enumerate(zip(found["labels"] or [""] * len(found["value"]), found["value"], strict=True)):
        text = f"{label}: {_short(value)}" if label else _short(value)
        if found["spread"]:
            text += f" [{_short(found['spread'][0][k])}, {_short(found['spread'][1][k])}]"
        parts.append(text)
    named = found["statistic"] != "median" and found["seeds"] > 1
    return (f"{found['statistic']} " if named else "") + "; ".join(parts)


def markdown(head, rows):
    """Return a Markdown table of `head` and `rows`, lists of text."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text):
    """`text` as it can stand in a Markdown table: on one line, its bars escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def _short(x):
    return "—" if x is None else f"{x:.4g}"


def _plain(values):
    """A JSON list; a value that is not finite becomes null."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in values]
