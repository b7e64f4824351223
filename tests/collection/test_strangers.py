"""Requests and files of every kind, spoilt at random from one seed: a line each, no traceback, no side effect."""

import contextlib
import io
import json
import os
import random
import shutil
import time

import numpy as np
import pytest

from wnlib import claims
from wnlib.collection import jobs, run, table, verify
from wnlib.sweep import __main__ as sweep
from wnlib.sweep import cells

STEM = "13_sample_complexity"
INPUTS = 130  # of each of the two kinds
SECONDS = 10  # for each


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one notebook, its record, drawn numbers, reference, stamp, executed copy and one finished cell."""
    (tmp_path / "notebooks" / "quick").mkdir(parents=True)
    (tmp_path / "figures" / "executed").mkdir(parents=True)
    shutil.copy(jobs.NOTEBOOKS / f"{STEM}.ipynb", tmp_path / "notebooks")
    shutil.copy(jobs.NOTEBOOKS / "quick" / f"{STEM}.yaml", tmp_path / "notebooks" / "quick")
    (tmp_path / "requirements.lock").touch()
    for name, folder in {"ROOT": "", "NOTEBOOKS": "notebooks", "BUILD": "build"}.items():
        monkeypatch.setattr(jobs, name, tmp_path / folder)
    profiles = {"paper": (tmp_path / "figures", None), "quick": (tmp_path / "quick", tmp_path / "notebooks" / "quick")}
    monkeypatch.setattr(jobs, "PROFILES", profiles)
    monkeypatch.setattr(verify, "REFERENCE", tmp_path / "reference")
    checked = [claims.check("law", "one", "a | b", "here", {"x": [1.0, 1.1], "y": [1.0, 0.9]}, "= 1 ± 0.2")]
    record = {"claims": checked, "environment": {"numpy": "2"}, "notebook": STEM, "profile": "paper"}
    record |= {"parameters": {"m": 1}, "cost": {"seconds": 63.0, "peak_gib": 0.2}}
    (tmp_path / "figures" / f"{STEM}.json").write_text(json.dumps(record))
    np.savez(tmp_path / "figures" / f"{STEM}.npz", a=np.arange(3.0), b=np.array(["p", "q"]))
    for kind in ("pdf", "png"):
        (tmp_path / "figures" / f"{STEM}.{kind}").touch()
    shutil.copy(jobs.ROOT / "notebooks" / f"{STEM}.ipynb", tmp_path / "figures" / "executed")
    found = verify.results(tmp_path / "figures", STEM)
    (tmp_path / "reference" / "paper").mkdir(parents=True)
    (tmp_path / "reference" / "paper" / f"{STEM}.json").write_text(json.dumps(verify.reference(found, found)))
    jobs.stamp_of(STEM, "paper").parent.mkdir(parents=True)
    stamp = jobs.inputs_of(STEM, "paper", None) | jobs.outputs_of(STEM, "paper")
    jobs.stamp_of(STEM, "paper").write_text(json.dumps(stamp))
    (tmp_path / "README.md").write_text(f"{table.BEGIN}\n{table.END}\n")
    monkeypatch.delenv("WNLIB_SWEEPS", raising=False)
    [cell, *_] = sweep.cells_of(STEM)
    cells.save(cell, cell.address, "[1.5]", 1.0)
    assert not jobs.why(STEM)
    assert verify.main([STEM]) == table.main(tmp_path) == 0
    return tmp_path


def asked(command, *arguments):
    """(exit status, lines on stderr) of a command in this process, which must not take long."""
    out, err, start = io.StringIO(), io.StringIO(), time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "heed_signals", lambda *note: None)
        try:
            status = command(*arguments)
        except SystemExit as end:
            status = end.code
    assert time.monotonic() - start < SECONDS
    return status, err.getvalue().splitlines()


def contents(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


ODD = [
    "",
    "0",
    "-1",
    "1",
    "2.5",
    "1e400",
    "-1.0e-320",
    ".nan",
    ".inf",
    "true",
    "null",
    "~",
    "[]",
    "[[1]]",
    "[1,x]",
    "{}",
]
ODD += ["{a: 1}", "9" * 5000, "0x" + "f" * 5000, "1:" * 2000 + "1", "[" * 3000, "{a: " * 3000, "!!int x", "!!set {a}"]
ODD += [
    "!!python/object/apply:os.system [touch pwned]",
    "&a [*a]",
    "[&a [*a]]",
    "*b",
    "2020-01-01",
    "!!binary YQ==",
    "%",
]
ODD += ["a\nb", "\x07", "\ud800", "x" * 10_000, "'", '"', "$(touch pwned)", "9223372036854775808", "1_0", "-.0", "[0]"]


def request(draw, parameters):
    """Arguments of a command, one of them odd."""
    name = draw.choice([*parameters, "", "nope", "m.x", "__class__"])
    setting = draw.choice([f"{name}={draw.choice(ODD)}", f"{name}=[{draw.choice(ODD)},{draw.choice(ODD)}]", name])
    return ["--set", setting, *draw.choice([[], ["--profile", "quick"], ["--backend", "numpy"]])]


@pytest.mark.slow
def test_odd_requests(project):
    draw, before = random.Random(21), contents(project)
    parameters = list(jobs.parameters_of(STEM))
    refused = 0
    for _ in range(INPUTS):
        arguments = request(draw, parameters)
        for command, more in ((run.main, ["--stale", STEM]), (sweep.main, ["status", STEM])):
            if command is sweep.main:
                arguments = [word for word in arguments if word not in ("--backend", "numpy")]
            status, lines = asked(command, [*more, *arguments])
            assert status in (0, 2) and len(lines) == (status == 2), (arguments, lines)
            assert not lines or len(lines[0]) < 700
            refused += status == 2
        assert contents(project) == before
    assert refused > INPUTS  # most are


def spoil(draw, data):
    """The bytes of a file as a fault may leave them: cut, overwritten, doubled, or one value of JSON exchanged."""
    kind = draw.randrange(6)
    at = draw.randrange(len(data) + 1)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + draw.randbytes(draw.randrange(1, 9)) + data[at + 4 :]
    if kind == 2:
        return data[:at] + data[draw.randrange(len(data) + 1) :]
    if kind == 3:
        return draw.choice([b"", b"null", b"[]", b"{}", b"3", b'"x"', b"[" * 100_000, b"9" * 5000, b"\xff\xfe", b"NaN"])
    try:
        return json.dumps(_exchanged(draw, json.loads(data))).encode()
    except ValueError:
        return data[at:]


def _exchanged(draw, value):
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    if not inner or draw.random() < 0.1:
        return draw.choice([None, [], {}, "x", -1, 10**400, 1e308, float("nan"), True, [[1]], {"a": {}}])
    at, member = draw.choice(inner)
    if isinstance(value, dict) and draw.random() < 0.2:
        return {name: one for name, one in inner if name != at}
    value[at] = _exchanged(draw, member)
    return value


@pytest.mark.slow
def test_spoilt_files(project):
    """Whatever a file is spoilt to, whoever reads it says one line that names it, or does not mind."""
    draw, good = random.Random(22), contents(project)
    paths = [path for path in sorted(good) if path.suffix not in (".pdf", ".png", ".lock")]
    kinds = {path.relative_to(project).parts[0] + path.suffix for path in paths}
    assert len(kinds) == 9, kinds
    minded = 0
    for count in range(INPUTS):
        path = paths[count % len(paths)]
        path.write_bytes(spoil(draw, good[path]))
        spoilt = contents(project)
        for command, *arguments in [
            (run.main, ["--why", STEM]),
            (run.main, ["--stale", STEM, "--profile", "quick"]),
            (verify.main, [STEM]),
            (verify.main, [STEM, "--records", str(project / "figures")]),
            (sweep.main, ["status", STEM]),
            (sweep.main, ["collect", STEM]),
        ]:
            status, lines = asked(command, *arguments)
            assert status in (0, 1, 2) and len(lines) <= 1, (path, lines)
            assert status == 2 or not lines or command is sweep.main, (path, lines)
            assert not lines or len(lines[0]) < 700
            if lines and command is not sweep.main:
                minded += 1
                assert path.name in lines[0] or STEM in lines[0], (path, lines)
        assert contents(project) == spoilt
        status, lines = asked(table.main, project)
        assert (status, len(lines)) in ((0, 0), (1, 1), (2, 1)), (path, lines)
        for changed in contents(project).keys() | good.keys():
            changed.write_bytes(good[changed]) if changed in good else changed.unlink()
    assert minded > INPUTS / 4


@pytest.mark.parametrize("what", ["a pipe", "a folder"])
def test_what_is_no_file_is_named_and_waited_for_by_nobody(project, what):
    record, notebook = project / "figures" / f"{STEM}.json", project / "notebooks" / f"{STEM}.ipynb"
    [cell] = (project / "build" / "sweeps").glob("*.json")
    for path, command, arguments in [
        (record, verify.main, [STEM, "--records", str(record.parent)]),
        (notebook, run.main, ["--stale"]),
        (cell, sweep.main, ["status", STEM]),
    ]:
        kept = path.read_bytes()
        path.unlink()
        os.mkfifo(path) if what == "a pipe" else path.mkdir()
        status, lines = asked(command, arguments)
        assert (status, lines) == (0, []) if path == cell else status == 2 and path.name in lines[0], lines
        path.unlink() if what == "a pipe" else path.rmdir()
        path.write_bytes(kept)
