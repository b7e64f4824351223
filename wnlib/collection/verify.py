"""Were the results reproduced? Holds regenerated records against the references in tests/reference.

    python -m wnlib.collection.verify [STEM ...] [--profile paper|quick] [--records DIR] [--update]

A number a agrees with its reference b when |a − b| ≤ atol + rtol·|b|; a claim's also when they differ by less than a
billionth of what the claim expects. rtol is fixed, atol is measured: a reference comes from two runs, one with this
processor's instructions and one with those of 2008, no wide vectors and no fused multiply-add. How far the second moved
a quantity is what rounding does to it, and atol is MARGIN times that: zero for most, 1e-22 or so for squared errors
that end at the rounding floor, as large as the numbers themselves for what is chaotic in rounding: of those the table
says `verdict only`. Verdicts, and integers that did not move, must agree exactly. Times and memory, which a record
names as the machine's, are shown and not compared.

Exit status: 0 everything reproduced; 1 something is not, or was not run here; 2 the request was refused.
"""

import io
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np

from wnlib import claims
from wnlib.collection import files, jobs, table
from wnlib.collection.jobs import Problem

REFERENCE = jobs.ROOT / "tests" / "reference"
RTOL = 1e-6  # of the numbers drawn
RTOL_CLAIMS = 2e-5  # of the claims' numbers: records keep six digits
MARGIN = 30  # times what the change of instructions moved
OF_BOUND = 1e-9  # of what a claim expects: rounding far below it may have left a number alone this once
SAMPLE = 32  # numbers kept of each array drawn, evenly spaced
SLACK = 2  # records by which a run that stops at a tolerance may end sooner or later
NOT_RUN = "not run here"
HEAD = ["notebook", "claim", "verdict", "measured", "reference", "difference / tolerance", "reproduced"]


def results(folder, stem):
    """Return (record, drawn arrays by name) of `stem` in `folder`; None where nothing is."""
    path, drawn = folder / f"{stem}.json", folder / f"{stem}.npz"
    try:
        with jobs.reading(drawn, "make it again", 2):
            file = np.load(io.BytesIO(files.read(drawn)), allow_pickle=False)
            arrays = {name: file[name] for name in file.files}
        with jobs.reading(path, "make it again", 2):
            record = table.record(path, 2)
            reference((record, arrays), (record, arrays))  # whatever is done with them can be done
        return record, arrays
    except FileNotFoundError:
        return None


def _numbers(claim):
    """A claim's measured numbers in one array; what is not finite is NaN."""
    measured = claim["measured"]
    return np.array([measured["value"], *(measured["spread"] or [])], dtype=float).ravel()


def _places(shape):
    """The indices of SAMPLE entries evenly spaced over an array of that shape."""
    size = int(np.prod(shape))
    places = np.unique(np.linspace(0, size - 1, min(size, SAMPLE)).round().astype(int))
    return [np.unravel_index(place, shape) if shape else () for place in places]


def _apart(a, b):
    """|a − b|, zero where neither is finite, infinite where one is not."""
    with np.errstate(invalid="ignore"):
        gap = np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float))
    one_missing = np.isfinite(a) != np.isfinite(b)
    return np.where(one_missing, np.inf, np.where(np.isfinite(a), gap, 0.0))


def noise(a, b, rtol):
    """Return the atol of a quantity that two roundings computed as `a` and `b`: 0 where rtol covers all they differ."""
    gap = _apart(a, b)
    return float(MARGIN * np.max(np.where(gap > rtol / MARGIN * np.abs(a), gap, 0.0), initial=0.0))


def ratio(a, b, atol, rtol):
    """Return max |a − b|/(atol + rtol·|b|) over all entries: more than 1 is not reproduced."""
    gap = _apart(a, b)
    allowed = atol + rtol * np.abs(np.nan_to_num(np.asarray(b, dtype=float)))
    return float(np.max(np.divide(gap, allowed, out=np.where(gap > 0, np.inf, 0.0), where=allowed > 0), initial=0.0))


def _like(array, other):
    """Whether the two arrays can be compared: the same kind and shape, but for SLACK rows more or less."""
    rows = abs(len(array) - len(other)) if array.ndim and other.ndim else 0
    same = array.shape[1:] == other.shape[1:] and array.ndim == other.ndim
    return same and rows <= SLACK and array.dtype.kind == other.dtype.kind


# --- references ------------------------------------------------------------------------------------------------


def reference(own, twin):
    """Return the reference, JSON-ready, made from the results of two runs that rounded differently."""
    (record, arrays), (other, twins) = own, twin
    others = {claim["id"]: claim for claim in other["claims"]}
    kept, drawn = [], {}
    for claim in record["claims"]:
        values, moved = _numbers(claim), _numbers(others[claim["id"]])
        atol = noise(values, moved, RTOL_CLAIMS)
        kept.append({"id": claim["id"], "verdict": claim["verdict"], "values": _plain(values), "atol": _plain(atol)})
    for name, array in arrays.items():
        entry = {"shape": list(array.shape), "kind": array.dtype.kind}
        entry["values"] = [_plain(array[at]) for at in _places(array.shape)]
        if array.dtype.kind != "U":
            rows = slice(min(len(array), len(twins[name]))) if array.ndim else ()
            alike = _like(array, twins[name])
            entry["atol"] = _plain(noise(array[rows], twins[name][rows], _rtol(array)) if alike else np.inf)
        drawn[name] = entry
    return {"parameters": record["parameters"], "environment": record["environment"], "claims": kept, "drawn": drawn}


def _rtol(array):
    return RTOL if array.dtype.kind == "f" else 0.0


def _plain(value):
    """Text as it is; a number, or a list of them, to nine digits; null for what is not finite: as JSON has them."""
    if np.ndim(value):
        return [_plain(member) for member in value]
    if isinstance(value, str):
        return str(value)
    return float(f"{value:.9g}") if np.isfinite(value) else None


def update(stems, profile):
    """Make the references of `stems` anew, from what is in the profile's folder and from a run that rounds otherwise.

    Problem (2) where a notebook is not up to date or the processor is no x86.
    """
    folder, twins = jobs.PROFILES[profile][0], jobs.BUILD / "twin" / profile
    for stem in stems:
        if not _run_here(stem, profile):
            raise Problem(2, f"{stem} is not up to date in {jobs.short(folder)}: {_make(profile)} first")
    if platform.machine() not in ("x86_64", "AMD64"):
        raise Problem(2, f"references need an x86 processor, to change its rounding; this one is {platform.machine()}")
    simd = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    older = {"OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": ",".join(simd)}
    older["WNLIB_SWEEPS"] = str(jobs.BUILD / "twin" / "sweeps")  # of finished cells it finds its own only
    for stem in stems:
        command = [sys.executable, "-m", "wnlib.collection.run", stem, "--profile", profile, "--output", str(twins)]
        if subprocess.run(command, cwd=jobs.ROOT, env=os.environ | older).returncode:
            raise Problem(1, f"{stem}: the run with other instructions failed; its reference is as it was")
        made = reference(results(folder, stem), results(twins, stem))
        path = REFERENCE / profile / f"{stem}.json"
        lines = [f'"{key}": {json.dumps(made[key], ensure_ascii=False)}' for key in ("parameters", "environment")]
        claimed = ",\n  ".join(json.dumps(claim, ensure_ascii=False) for claim in made["claims"])
        drawn = ",\n  ".join(f"{json.dumps(k, ensure_ascii=False)}: {json.dumps(v)}" for k, v in made["drawn"].items())
        lines += [f'"claims": [\n  {claimed}\n ]', f'"drawn": {{\n  {drawn}\n }}']
        files.write(path, "{\n " + ",\n ".join(lines) + "\n}\n")
        print(f"{jobs.short(path)}: made")


# --- the comparison ----------------------------------------------------------------------------------------------


def compare(found, wanted):
    """Return the table's rows, without the notebook, for the results `found` against the reference `wanted`.

    Each is [claim, verdict, measured, reference, difference / tolerance, reproduced]; the last row is that of the
    numbers drawn, and "yes" in its last column is what reproduced means.
    """
    record, arrays = found
    if record["parameters"] != wanted["parameters"]:
        pairs = {name: (record["parameters"].get(name), value) for name, value in wanted["parameters"].items()}
        other = [f"{name} = {mine}, not {ref}" for name, (mine, ref) in pairs.items() if mine != ref]
        return [["parameters", "", "; ".join(other) or "more than in the reference", "", "", "NO"]]
    claimed, rows = {claim["id"]: claim for claim in record["claims"]}, []
    machine = set(record.get("machine", ()))
    for ref in wanted["claims"]:
        claim = claimed.pop(ref["id"], None)
        if claim is None:
            rows.append([ref["id"], f"none, was {ref['verdict']}", "", "", "", "NO"])
            continue
        values, expected = _numbers(claim), np.array(ref["values"], dtype=float)
        off, only = np.inf, False
        if values.shape == expected.shape:
            bound = abs(claim["expected"] or 0.0)
            off, only = _judge(values, expected, ref["atol"], RTOL_CLAIMS, OF_BOUND * bound)
        same = claim["verdict"] == ref["verdict"]
        verdict = claim["verdict"] if same else f"{claim['verdict']}, was {ref['verdict']}"
        medians = len(claim["measured"]["value"])
        shown = [", ".join(f"{v:.6g}" for v in numbers[:medians]) for numbers in (values, expected)]
        outcome = ["the machine's", "not compared"] if ref["id"] in machine else _outcome(off, only, same)
        rows.append([ref["id"], verdict, *shown, *outcome])
    rows += [[name, "not in the reference", "", "", "", "NO"] for name in claimed]
    return [*rows, _drawn(arrays, wanted["drawn"], machine)]


def _judge(values, expected, atol, rtol, beside=0.0):
    """(difference over atol + `beside` + rtol·|expected|, whether atol leaves nothing to compare)."""
    if atol is None or (atol > 0 and atol >= np.max(np.abs(np.nan_to_num(expected)), initial=0.0)):
        return 0.0, True
    return ratio(values, expected, atol + beside, rtol), False


def _outcome(off, only, same=True):
    return ["verdict only" if only else f"{off:.2g}", "yes" if same and off <= 1 else "NO"]


def _drawn(arrays, wanted, machine=frozenset()):
    """The row of the numbers drawn: how many were compared, and the one that is furthest off."""
    if arrays.keys() != wanted.keys():
        gone, new = ", ".join(wanted.keys() - arrays.keys()), ", ".join(arrays.keys() - wanted.keys())
        return ["numbers drawn", "", f"without {gone or 'none'}; new: {new or 'none'}", "", "", "NO"]
    worst, count = (0.0, ""), 0
    wanted = {name: ref for name, ref in wanted.items() if name not in machine}
    for name, ref in wanted.items():
        array, off = arrays[name], np.inf
        if _like(array, np.empty(ref["shape"], dtype=ref["kind"])):
            there = [not at or at[0] < len(array) for at in _places(ref["shape"])]
            values = [array[at] for at, kept in zip(_places(ref["shape"]), there, strict=True) if kept]
            expected = [value for value, kept in zip(ref["values"], there, strict=True) if kept]
            if ref["kind"] == "U":
                off = 0.0 if values == expected else np.inf
            else:
                off, _ = _judge(np.array(values, float), np.array(expected, float), ref["atol"], _rtol(array))
            count += len(values)
        worst = max(worst, (off, name))
    furthest = f"furthest off: {worst[1]}" if worst[0] > 0 else ""
    return ["numbers drawn", "", f"{count} of {len(wanted)} arrays", furthest, *_outcome(worst[0], False)]


def verify(stems, profile, records=None):
    """Return (rows of the table, whether something was run and all of it reproduced).

    `records`: a folder of records wherever they were made; without it only what was run here counts.
    """
    rows = []
    for stem in stems:
        path = REFERENCE / profile / f"{stem}.json"
        found = results(records or jobs.PROFILES[profile][0], stem)
        if not path.is_file():
            got = [["", "", "", f"no {jobs.short(path)}", "", "NO"]]
        elif not found or not (records or _run_here(stem, profile)):
            got = [["", "", _make(profile), "", "", NOT_RUN]]
        else:
            with jobs.reading(path, "restore it, or make references", 2):
                got = compare(found, files.parsed(path))
        rows += [[stem[:2], *row] for row in got]
    outcomes = {row[-1] for row in rows}
    return rows, "NO" not in outcomes and outcomes != {NOT_RUN}


def _run_here(stem, profile):
    """Whether what is in the profile's folder was made here, from the present sources, on whatever backend."""
    return any(not jobs.why(stem, profile, backend) for backend in (None, "numpy", "cupy"))


def _make(profile):
    return "make figures" if profile == "paper" else f"make {profile}"


@jobs.command
def main(arguments=None):
    """The command line; returns the exit status."""
    parser = jobs.parser("wnlib.collection.verify", __doc__)
    add = parser.add_argument
    add("stems", nargs="*", metavar="STEM", help="notebooks to verify, as NN_slug (default: all)")
    add("--records", type=Path, metavar="DIR", help="records of another folder, wherever they were made")
    add("--update", action="store_true", help="make the references anew: one more run of each notebook")
    asked = parser.parse_args(arguments)

    stems = asked.stems or jobs.stems()
    for stem in stems:
        jobs.parameters_of(stem)  # refuses what is no notebook
    if asked.update:
        return update(stems, asked.profile)
    rows, good = verify(stems, asked.profile, asked.records)
    print(claims.markdown(HEAD, rows))
    kept, off, missing = (sum(row[-1] == last for row in rows) for last in ("yes", "NO", NOT_RUN))
    beside = f"; {missing} notebooks not run here" if missing else ""
    print(f"\n{kept} of {kept + off} rows reproduced ({asked.profile} profile){beside}")
    if renew := [stem for stem in stems if any((row[0], row[-1]) == (stem[:2], "NO") for row in rows)]:
        again = f"python -m wnlib.collection.verify {' '.join(renew)} --profile {asked.profile} --update"
        print(f"Where the change is meant, or the notebook new, make the reference anew: {again}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
