"""Claims checked in code, and the README's table of their verdicts (`make claims`)."""

import collections
import json
import pathlib

import numpy as np

from wnlib import validate

VERDICTS = ("confirmed", "refined", "not observed")

# How a measured value is held against the expected one; `tolerance` is fixed before looking.
COMPARISONS = {
    "within": (lambda measured, expected, tol: np.abs(measured - expected) <= tol, "± {:g}"),
    "within relative": (
        lambda measured, expected, tol: np.abs(measured - expected) <= tol * np.abs(expected),
        "± {:.3g}%",
    ),
    "at most": (lambda measured, expected, tol: measured <= expected, "at most"),
    "at least": (lambda measured, expected, tol: measured >= expected, "at least"),
}


def check(id, statement, source, measured, expected, comparison, tolerance=0.0, *, labels=(), refines=""):
    """Return the claim as a record: {id, statement, source, measured, expected, tolerance, verdict}.

    `measured` is a number, (conditions,) with one `labels` entry each, or (conditions, seeds): every condition's
    median over seeds must hold against `expected` (a number or one per condition) under `comparison`:
    "within" (absolute), "within relative", "at most" or "at least". Its quartiles over seeds go on record. The
    verdict is `confirmed`, or `refined` where `refines` says how the paper's claim is sharper or narrower
    here, or `not observed`. A NaN never holds, nor does a median that infinite values leave undefined.
    """
    holds, words = validate.choice("comparison", comparison, COMPARISONS)
    tolerance = validate.real("tolerance", tolerance, 0)
    values = np.atleast_1d(np.asarray(measured, dtype=float))
    if values.ndim > 2 or not values.size:
        raise ValueError(
            f"measured of {id!r} has shape {values.shape}: must be a number, (conditions,) or (conditions, seeds)"
        )
    if values.ndim == 1 and len(labels) in (0, 1) and values.size > 1:
        values = values[None, :]  # one condition, many seeds
    per_seed = values if values.ndim == 2 else values[:, None]
    if labels and len(labels) != len(per_seed):
        raise ValueError(
            f"labels = {list(labels)}: must name each of the {len(per_seed)} measured conditions of {id!r}"
        )
    wanted = np.asarray(expected, dtype=float)
    if wanted.shape not in ((), (1,), (len(per_seed),)):
        raise ValueError(f"expected of {id!r} has shape {wanted.shape}: must be one number or {len(per_seed)} of them")
    wanted = np.broadcast_to(wanted, len(per_seed))
    with np.errstate(invalid="ignore"):  # of infinities
        low, median, high = np.quantile(per_seed, [0.25, 0.5, 0.75], axis=1)
        observed = bool(np.all(holds(median, wanted, tolerance)))
    spread = per_seed.shape[1] > 1
    return {
        "id": id,
        "statement": refines if observed and refines else statement,
        "source": source,
        "measured": {
            "labels": list(labels),
            "median": _plain(median),
            "quartiles": [_plain(low), _plain(high)] if spread else None,
            "seeds": per_seed.shape[1],
        },
        "expected": _plain(wanted[:1] if np.all(wanted == wanted[0]) else wanted),
        "tolerance": words.format(100 * tolerance if comparison == "within relative" else tolerance),
        "verdict": ("refined" if refines else "confirmed") if observed else "not observed",
    }


def table(claims):
    """Return the claims as a Markdown table, for the end of a notebook."""
    rows = [[c["id"], c["statement"], c["source"], *numbers(c), c["verdict"]] for c in claims]
    return markdown(["claim", "statement", "source", "measured", "expected", "tolerance", "verdict"], rows)


def show(claims):
    """Return the claims' table for Jupyter to display as the last value of a cell."""
    from IPython.display import Markdown

    return Markdown(table(claims))


def collect(folder):
    """Return every record `NN_slug.json` in `folder` as Markdown, twice: a line each notebook, then all their claims.

    The first table has the time and memory of each run, how many claims ended how, and the names of those not observed.
    """
    overview, rows, verdicts, seconds = [], [], collections.Counter(), 0.0
    for path in sorted(pathlib.Path(folder).glob("[0-9][0-9]_*.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            claims, cost = record["claims"], record.get("cost", {})
            shown = [_summary(claim) for claim in claims]
        except (ValueError, KeyError, AttributeError, TypeError):
            raise ValueError(f"{path} is no record of a notebook's claims: make it again") from None
        notebook = f"[{path.stem}](figures/executed/{path.stem}.ipynb)"
        spent = [f"{cost['seconds']:g} s", f"{cost['peak_gib']:g} GiB"] if cost else ["", ""]
        ended = collections.Counter(claim["verdict"] for claim in claims)
        missed = ", ".join(f"`{claim['id']}`" for claim in claims if claim["verdict"] == "not observed")
        overview.append([notebook, *spent, *(str(ended[v] or "") for v in VERDICTS[:2]), missed])
        seconds += cost.get("seconds", 0.0)
        verdicts += ended
        for k, (claim, (measured, expected)) in enumerate(zip(claims, shown, strict=True)):
            text = f"`{claim['id']}`: {claim['statement']}"
            rows.append([notebook if k == 0 else "", text, measured, expected, claim["verdict"]])
    counts = ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in VERDICTS if verdicts[verdict])
    parts = [
        f"{verdicts.total()} claims: {counts}. The notebooks' times add up to {seconds / 60:.0f} minutes.",
        markdown(["notebook", "time", "memory", *VERDICTS], overview),
        f"<details>\n<summary>All {verdicts.total()} claims, as measured</summary>",
        markdown(["notebook", "claim", "measured", "expected", "verdict"], rows),
        "</details>",
    ]
    return "\n\n".join(parts)


def _summary(claim):
    """(measured, expected) in a few words: beyond two conditions the range of their medians."""
    medians = [m for m in claim["measured"]["median"] if m is not None]
    measured, expected, tolerance = numbers(claim)
    if len(claim["measured"]["median"]) > 2 and medians:
        missing = len(claim["measured"]["median"]) - len(medians)
        measured = f"{_short(min(medians))} … {_short(max(medians))}" + (f", {missing} —" if missing else "")
    if len(claim["expected"]) > 3:
        expected = f"{_short(min(claim['expected']))} … {_short(max(claim['expected']))}"
    sign = {"at most": f"≤ {expected}", "at least": f"≥ {expected}"}
    return measured, sign.get(tolerance, f"{expected} {tolerance}")


def numbers(claim):
    """Return what the tables show of a claim, as text: (measured, expected, tolerance)."""
    measured = claim["measured"]
    labels = measured["labels"] or [""] * len(measured["median"])
    parts = []
    for k, (label, median) in enumerate(zip(labels, measured["median"], strict=True)):
        text = f"{label}: {_short(median)}" if label else _short(median)
        if measured["quartiles"]:
            text += f" [{_short(measured['quartiles'][0][k])}, {_short(measured['quartiles'][1][k])}]"
        parts.append(text)
    return "; ".join(parts), ", ".join(_short(e) for e in claim["expected"]), claim["tolerance"]


def _short(x):
    return "—" if x is None else f"{x:.4g}"


def _plain(values):
    """A JSON list; a value that is not finite becomes null."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.atleast_1d(values)]


def markdown(head, rows):
    """Return a Markdown table of `head` and `rows`, lists of text."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text):
    """`text` as it can stand in a Markdown table: on one line, its bars escaped."""
    return " ".join(text.split()).replace("|", "\\|")


def gpu(folder):
    """Return one sentence on `gpu.json` in `folder`, which `make gpu-check` writes, or that there is none."""
    path = pathlib.Path(folder) / "gpu.json"
    if not path.is_file():
        return "Nothing here has been run on a GPU yet: `make gpu-check` does, and its record is then shown."
    found = json.loads(path.read_text(encoding="utf-8"))
    return (
        f"On a GPU: {found['device']}, driver {found['driver']}, {found['date']}: "
        f"{found['parity']['passed']} parity tests passed, {found['reproduced']} quick results reproduced, "
        f"reading at {max(found['bandwidth']) / 1e9:.0f} GB/s, "
        f"products at up to {max(found['of_bandwidth']):.0%} of that, "
        f"GEMM at {found['gemm_rate'][0] / 1e12:.3g} TFLOP/s, notebook 03 in {found['paper_scale_seconds']:g} s."
    )


BEGIN, END = "<!-- claims: made by `make claims` -->", "<!-- end of claims -->"


def main(root=None):
    """Rewrite the table between the markers in README.md from figures/*.json."""
    root = pathlib.Path(root) if root else pathlib.Path(__file__).resolve().parent.parent
    readme = root / "README.md"
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise SystemExit(f"README.md lacks the markers {BEGIN!r} and {END!r}: put them, once, around the claims table")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    new = f"{before}{BEGIN}\n\n{collect(root / 'figures')}\n\n{gpu(root / 'figures')}\n\n{END}{after}"
    if new != text:
        aside = readme.with_suffix(".md.new")
        aside.write_text(new, encoding="utf-8")
        aside.replace(readme)


if __name__ == "__main__":
    main()
