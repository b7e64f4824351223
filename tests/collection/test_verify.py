"""Does `make verify` tell a change of the method from rounding, and everything else that is off from what is not?"""

import copy
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from wnlib import claims
from wnlib.collection import jobs, verify

STEM = "02_condition_number"


def results(shift=0.0, rows=40, verdict_at=0.2):
    """A record and drawn numbers like a notebook's; `shift` is a relative change of the rate."""
    t = np.arange(rows)
    error = np.exp(-0.9 * (1 + shift) * t)
    error = np.maximum(error, 1e-15) ** 2
    rate = 0.9 * (1 + shift)
    checked = [
        claims.check("law", "rate", "it shrinks", "here", {"a": rate, "b": rate}, f"= 0.9 ± {100 * verdict_at}%"),
        claims.check("law", "never", "nothing to measure", "here", np.nan, "≤ 1"),
    ]
    record = {"claims": checked, "parameters": {"eta": 1.0, "steps": rows}, "environment": {}}
    drawn = {"error": error, "t": t, "names": np.array(["a", "b"]), "scalar": np.array(rate)}
    return json.loads(json.dumps(record)), drawn


def rounded(found, relative=1e-14, absolute=1e-27, seed=0):
    """The same results as rounded otherwise: relative noise, and absolute noise in squared errors."""
    record, drawn = copy.deepcopy(found)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(drawn["error"].shape)
    drawn["error"] = np.abs(drawn["error"] * (1 + relative * noise) + absolute * noise)
    return record, drawn


@pytest.fixture(scope="module")
def reference():
    return json.loads(json.dumps(verify.reference(results(), rounded(results())), allow_nan=False))


def reproduced(found, reference):
    return {row[0]: row[-1] for row in verify.compare(found, reference)}


def test_rounding_is_reproduced_whatever_its_draw(reference):
    for seed in range(1, 20):
        assert set(reproduced(rounded(results(), seed=seed), reference).values()) == {"yes"}
    assert reference["drawn"]["error"]["atol"] < 1e-24  # the tail is not given away


@pytest.mark.parametrize("shift", [0.01, -0.01, 1e-4])
def test_a_change_of_the_rate_is_not(reference, shift):
    assert reproduced(results(shift), reference) == {"rate": "NO", "never": "yes", "numbers drawn": "NO"}


def test_a_number_far_below_its_claim_s_bound_is_rounding_even_where_the_second_run_did_not_move_it():
    def found(value):
        record, drawn = results()
        record["claims"].append(claims.check("law", "gap", "there is none", "here", value, "≤ 1e-2"))
        return record, drawn

    reference = verify.reference(found(4e-14), found(4e-14))
    assert reproduced(found(7e-14), reference)["gap"] == "yes"
    assert reproduced(found(1e-9), reference)["gap"] == "NO"


def test_a_change_hidden_in_the_tail_is_found(reference):
    record, drawn = results()
    drawn["error"][drawn["error"] < 1e-20] *= 1.01
    assert reproduced((record, drawn), reference)["numbers drawn"] == "NO"


def spoil(change):
    found = copy.deepcopy(results())
    change(*found)
    return found


@pytest.mark.parametrize(
    ("change", "row"),
    [
        (lambda record, drawn: record["claims"][0].update(verdict="refined"), "rate"),
        (lambda record, drawn: record["claims"][0]["measured"]["value"].__setitem__(1, None), "rate"),
        (lambda record, drawn: record["claims"][0]["measured"]["value"].pop(), "rate"),
        (lambda record, drawn: record["claims"][1]["measured"].update(value=[1.0]), "never"),
        (lambda record, drawn: record["claims"].pop(0), "rate"),
        (lambda record, drawn: record["claims"].append(record["claims"][0] | {"id": "new"}), "new"),
        (lambda record, drawn: record["parameters"].update(eta=1.01), "parameters"),
        (lambda record, drawn: record["parameters"].update(more=1), "parameters"),
        (lambda record, drawn: drawn.pop("t"), "numbers drawn"),
        (lambda record, drawn: drawn.update(extra=drawn["t"]), "numbers drawn"),
        (lambda record, drawn: drawn["t"].__setitem__(-1, 99), "numbers drawn"),
        (lambda record, drawn: drawn.update(t=drawn["t"].astype(float)), "numbers drawn"),
        (lambda record, drawn: drawn["error"].__setitem__(0, np.nan), "numbers drawn"),
        (lambda record, drawn: drawn.update(error=drawn["error"][:-3]), "numbers drawn"),
        (lambda record, drawn: drawn.update(error=drawn["error"][:, None]), "numbers drawn"),
        (lambda record, drawn: drawn.update(names=np.array(["a", "c"])), "numbers drawn"),
        (lambda record, drawn: drawn.update(scalar=np.array(0.91)), "numbers drawn"),
    ],
)
def test_each_fault_is_found_in_its_row(reference, change, row):
    assert [name for name, value in reproduced(spoil(change), reference).items() if value == "NO"] == [row]


def test_a_run_may_stop_a_record_sooner_or_later(reference):
    record, drawn = results()
    for rows in (slice(0, -1), slice(0, -verify.SLACK)):
        fewer = drawn | {"error": drawn["error"][rows], "t": drawn["t"][rows]}
        assert set(reproduced((record, fewer), reference).values()) == {"yes"}
    more = drawn | {"error": np.append(drawn["error"], 1e-30), "t": np.append(drawn["t"], 40)}
    assert set(reproduced((record, more), reference).values()) == {"yes"}


def test_what_is_chaotic_in_rounding_is_compared_by_its_verdict_only():
    own, twin = results(), results()
    own[0]["claims"][0]["measured"]["value"] = [2e-15, 1e-15]
    twin[0]["claims"][0]["measured"]["value"] = [1e-15, 3e-15]
    reference = verify.reference(own, twin)
    own[0]["claims"][0]["measured"]["value"] = [7e-15, 0.0]
    row = verify.compare(own, reference)[0]
    assert row[-2:] == ["verdict only", "yes"]
    own[0]["claims"][0]["verdict"] = "not observed"
    assert verify.compare(own, reference)[0][-2:] == ["verdict only", "NO"]


def test_the_tolerance_is_the_stated_one():
    assert verify.ratio([1 + 1e-6], [1.0], 0.0, 1e-6) == pytest.approx(1, rel=1e-6)
    assert verify.ratio([1.5, np.nan], [1.0, np.nan], 0.25, 0.25) == 1.0
    assert verify.ratio([np.nan], [1.0], 1e9, 1.0) == np.inf
    assert verify.ratio([1, 2], [1, 3], 0.0, 0.0) == np.inf
    assert verify.noise(np.array([1.0, 1e-12]), np.array([1 + 1e-9, 3e-12]), 1e-6) == pytest.approx(6e-11)


# --- the command -------------------------------------------------------------------------------------------------


def test_records_without_a_run_here_are_not_taken_for_reproduced(tmp_path, monkeypatch, capsys):
    """A clone holds the published records: comparing them with the references would show nothing."""
    monkeypatch.setattr(jobs, "BUILD", tmp_path)
    assert verify.main([STEM, "--profile", "quick"]) == 1
    assert "| make quick |  |  | not run here |" in capsys.readouterr().out


@pytest.mark.parametrize(("outcome", "status"), [("yes", 0), ("NO", 1)])
def test_what_was_not_run_is_told_and_no_error_beside_what_was(monkeypatch, capsys, outcome, status):
    monkeypatch.setattr(verify, "_run_here", lambda stem, profile: stem == STEM)
    monkeypatch.setattr(verify, "results", lambda *_: "there")
    monkeypatch.setattr(verify, "compare", lambda *_: [["a", "", "", "", "", outcome]])
    assert verify.main(["--profile", "quick"]) == status
    out = capsys.readouterr().out
    assert "notebooks not run here" in out
    assert (f"verify {STEM} --profile quick --update" in out) == (outcome == "NO")


def test_a_reference_that_is_missing_is_named_with_the_command_that_makes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(verify, "REFERENCE", jobs.ROOT / "build" / "none")
    monkeypatch.setattr(verify, "results", lambda *_: "there")
    assert verify.main([STEM, "--profile", "quick"]) == 1
    out = capsys.readouterr().out
    assert f"no build/none/quick/{STEM}.json" in out
    assert out.endswith(f": python -m wnlib.collection.verify {STEM} --profile quick --update\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["99_none"], "no notebook '99_none' in notebooks"),
        (["--profile", "slow"], "invalid choice: 'slow'"),
        (["--update", STEM], f"{STEM} is not up to date in"),
    ],
)
def test_bad_requests_take_one_line(tmp_path, monkeypatch, capsys, arguments, line):
    monkeypatch.setattr(jobs, "BUILD", tmp_path)
    try:
        status = verify.main(arguments)
    except SystemExit as end:
        status = end.code
    err = capsys.readouterr().err
    assert status == 2 and line in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("kind", "content"), [("json", "{}"), ("json", "[]"), ("json", "{"), ("npz", ""), ("npz", "PK")]
)
def test_a_broken_record_is_named(tmp_path, capsys, kind, content):
    record, drawn = results()
    (tmp_path / f"{STEM}.json").write_text(json.dumps(record))
    np.savez(tmp_path / f"{STEM}.npz", **drawn)
    (tmp_path / f"{STEM}.{kind}").write_text(content)
    assert verify.main([STEM, "--profile", "quick", "--records", str(tmp_path)]) == 2
    assert re.fullmatch(rf".*{STEM}\.{kind} cannot be read \(.*\): .*make it again\n", capsys.readouterr().err)


@pytest.mark.slow
def test_a_percent_of_the_step_is_told_from_rounding(tmp_path, capsys):
    """Two real runs of a quick notebook: one on other processor instructions, one whose method steps 1% further."""
    other = {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2"}
    copied = tmp_path / "copy"
    shutil.copytree(jobs.ROOT / "wnlib", copied / "wnlib")
    shutil.copytree(jobs.NOTEBOOKS, copied / "notebooks")
    shutil.copy(jobs.ROOT / "requirements.lock", copied)
    methods = copied / "wnlib" / "methods.py"
    source, count = re.subn(
        r'(def weight_normalization\((?:.|\n)*?""".*?"""\n)',
        r"\1    eta = 1.01 * eta\n",
        methods.read_text(),
        flags=re.S,
    )
    assert count == 1
    methods.write_text(source)
    command = [sys.executable, "-m", "wnlib.collection.run", STEM, "--profile", "quick", "--output"]
    runs = [
        subprocess.Popen([*command, tmp_path / "rounded"], cwd=jobs.ROOT, env=os.environ | other),
        subprocess.Popen([*command, tmp_path / "further"], cwd=copied),
    ]
    assert [run.wait() for run in runs] == [0, 0]

    def told(name):
        status = verify.main([STEM, "--profile", "quick", "--records", str(tmp_path / name)])
        rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("| 02 ")]
        return status, {row.split(" | ")[1]: row.endswith("| yes |") for row in rows}

    # The rate and the curves have moved; what gradient descent does has not.
    wanted = {
        "kappa-linear": False,
        "linear-span": False,
        "gd-sublinear": True,
        "numbers drawn": False,
    }
    assert told("rounded") == (0, dict.fromkeys(wanted, True))
    assert told("further") == (1, wanted)


@pytest.mark.parametrize("profile", jobs.PROFILES)
def test_references_are_small_and_of_notebooks_that_exist(profile):
    files = list((verify.REFERENCE / profile).glob("*.json"))
    assert {path.stem for path in files} <= set(jobs.stems())
    assert sum(path.stat().st_size for path in files) < 350_000  # of all 22; a third is the race of peers


def test_references_are_made_from_two_roundings(tmp_path, monkeypatch, capsys):
    """The second run is asked for in other words of the processor's; its reference then verifies the first."""

    def publish(folder, found):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{STEM}.json").write_text(json.dumps(found[0]))
        np.savez(folder / f"{STEM}.npz", **found[1])

    def second_run(command, env, **options):
        assert {"OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"} <= env.keys()
        publish(tmp_path / "build" / "twin" / "quick", rounded(results()))
        return subprocess.CompletedProcess(command, 0)

    folder = tmp_path / "quick"
    publish(folder, results())
    monkeypatch.setattr(jobs, "BUILD", tmp_path / "build")
    monkeypatch.setattr(verify, "REFERENCE", tmp_path / "reference")
    monkeypatch.setitem(jobs.PROFILES, "quick", (folder, None))
    monkeypatch.setattr(verify, "_run_here", lambda stem, profile: True)
    monkeypatch.setattr(verify.subprocess, "run", second_run)
    request = [STEM, "--profile", "quick"]
    monkeypatch.setattr(verify.platform, "machine", lambda: "arm64")
    assert verify.main([*request, "--update"]) == 2
    assert "references need an x86 processor" in capsys.readouterr().err
    monkeypatch.setattr(verify.platform, "machine", lambda: "x86_64")
    assert verify.main(request) == 1  # no reference yet
    assert verify.main([*request, "--update"]) == verify.main(request) == 0
    publish(folder, results(0.01))
    assert verify.main(request) == 1


def test_what_is_the_machines_is_shown_and_not_compared(reference):
    record, drawn = results(0.01, verdict_at=1e-4)  # another verdict, other numbers
    record["machine"] = ["rate", "error", "scalar"]
    rows = {row[0]: row for row in verify.compare((record, drawn), reference)}
    assert rows["rate"][-2:] == ["the machine's", "not compared"]
    assert rows["rate"][1] == "not observed, was confirmed"
    assert rows["never"][-1] == rows["numbers drawn"][-1] == "yes"
    drawn["t"] = drawn["t"] + 1  # what is not is compared as ever
    assert verify.compare((record, drawn), reference)[-1][-1] == "NO"
