"""The claims of all notebooks (`make claims`): figures/claims.md, by tier, and the counts in the README."""

import collections
import sys
from pathlib import Path

from wnlib import claims
from wnlib.collection import files, jobs
from wnlib.collection.jobs import Problem

BEGIN, END = "<!-- claims: made by `make claims` -->", "<!-- end of claims -->"
LEGEND = """Made by `make claims` from the records beside this file. *Measured*: over seeds the median with quartiles
[lower, upper]; `mean` with two standard errors on either side; `worst`, the seed that is farthest off. Of more than
three conditions the range `a … b`; `—` stands for what was not reached, and a ratio of
products of 0 for one whose denominator was not. *Confirmed* means that the statement holds as it stands, a negative
one too; the median's holds where the median does, which may be half of the seeds."""
# What of the paper a notebook regenerates, by its slug.
PAPER = {
    "saddle_to_saddle": "Fig. 1, Lemma 4.1",
    "condition_number": "Fig. 2a",
    "overparameterization": "Fig. 2b",
    "full_rank": "Fig. 2c",
    "retractions": "Fig. 3a",
    "noise": "Fig. 3b",
    "image_reconstruction": "the image",
    "two_phases": "Theorem 3.2",
    "critical_points": "Lemma 4.1",
    "gd_lower_bound": "GD's lower bound",
    "sample_complexity": "Theorem 3.2, samples",
}


def records(folder):
    """Return {stem: record} of every `NN_slug.json` in `folder`; Problem (1) for a file that is no record."""
    return {path.stem: record(path) for path in sorted(Path(folder).glob("[0-9][0-9]_*.json"))}


def record(path, status=1):
    """Return the record at `path`, all of whose claims can be shown; Problem for a file that is none."""
    with jobs.reading(path, "it is no record of a notebook's claims; make it again", status):
        found = files.parsed(path)
        overview({path.stem: found}), every({path.stem: found}), claims.table(found["claims"])
        for claim in found["claims"]:
            claims.TIERS[claim["tier"]], claims.VERDICTS.index(claim["verdict"])
        return found


def overview(found):
    """Return the README's part: how the claims of each tier ended, and a line for each notebook, as Markdown."""
    ended = collections.Counter((c["tier"], c["verdict"]) for record in found.values() for c in record["claims"])
    rows = [[words, *(str(ended[tier, v] or "") for v in claims.VERDICTS)] for tier, words in claims.TIERS.items()]
    lines = []
    for stem, record in found.items():
        cost = record.get("cost")
        spent = [f"{cost['seconds']:g} s", f"{cost['peak_gib']:g} GiB"] if cost else ["", ""]
        paper = _ended([claim for claim in record["claims"] if claim["tier"] == "paper"])
        ours = _ended([claim for claim in record["claims"] if claim["tier"] != "paper"])
        lines.append([PAPER.get(stem[3:], ""), f"[{stem}](figures/executed/{stem}.ipynb)", paper, ours, *spent])
    minutes = sum(record.get("cost", {}).get("seconds", 0) for record in found.values()) / 60
    parts = [
        claims.markdown(["claims", *claims.VERDICTS], rows),
        "All of them, as measured: [figures/claims.md](figures/claims.md). The notebooks' times add up to "
        f"{minutes:.0f} minutes.",
        claims.markdown(["of the paper", "notebook", "the paper's claims", "ours", "time", "memory"], lines),
    ]
    return "\n\n".join(parts)


def _ended(found):
    """How the claims ended, in words; those not observed by name."""
    count = collections.Counter(claim["verdict"] for claim in found)
    missed = ", ".join(f"`{claim['id']}`" for claim in found if claim["verdict"] == "not observed")
    words = [f"{count[verdict]} {verdict}" for verdict in claims.VERDICTS[:2] if count[verdict]]
    return "; ".join(words + [f"not {missed}"] * bool(missed))


def every(found):
    """Return figures/claims.md: all claims, by tier and notebook."""
    parts = ["# All claims, as measured", LEGEND]
    for tier, words in claims.TIERS.items():
        rows = []
        for stem, record in found.items():
            for claim in record["claims"]:
                if claim["tier"] == tier:
                    text = f"`{claim['id']}`: {claim['statement']}"
                    notebook = f"[{stem[:2]}](executed/{stem}.ipynb)"
                    rows.append(
                        [notebook, text, claim["source"], claims.measured(claim, 3), claim["holds"], claim["verdict"]]
                    )
        parts += [f"## {words}", claims.markdown(["", "claim", "source", "measured", "expected", "verdict"], rows)]
    return "\n\n".join(parts) + "\n"


@jobs.command
def main(root=jobs.ROOT):
    """Rewrite figures/claims.md and what stands between the markers in README.md; return the exit status."""
    readme, found = root / "README.md", records(root / "figures")
    with jobs.reading(readme, "restore it"):
        text = files.read(readme).decode()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise Problem(2, f"README.md lacks the markers {BEGIN!r} and {END!r}: put them, once, around the claims table")
    before, rest = text.split(BEGIN)
    new = {root / "figures" / "claims.md": every(found)}
    new[readme] = f"{before}{BEGIN}\n\n{overview(found)}\n\n{END}{rest.split(END)[1]}"
    for path, text in new.items():
        if not path.is_file() or files.read(path) != text.encode():
            files.write(path, text)


if __name__ == "__main__":
    sys.exit(main())
