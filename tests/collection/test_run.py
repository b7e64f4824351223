"""The runner against real kernels, real faults and real signals, in a miniature project of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from wnlib import progress
from wnlib.collection import jobs, kernel, run

STEM = "01_demo"
# Saves the four files without wnlib.figures; `fault` then does what the test is about.
BODY = f"""\
import json, os, pathlib, signal, subprocess, sys, time
folder = pathlib.Path(os.environ["WNLIB_FIGURES"])
print("saving in", folder, end=" ")
print("from", os.getcwd())
for kind in ("pdf", "png", "npz"):
    (folder / f"{STEM}.{{kind}}").write_text(f"{{kind}} of {{n}}")
claims = [{{"id": "a", "verdict": "confirmed"}}, {{"id": "b", "verdict": "not observed"}}]
(folder / f"{STEM}.json").write_text(json.dumps({{"claims": claims, "n": n}}))
object()
"""
FAULTS = {
    "raise": 'raise ValueError("two\\nlines")',
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "exit": "sys.exit(0)",
    "sleep": '(folder / "asleep").touch(); subprocess.Popen(["sleep", "600"]); time.sleep(600)',
    "forget": f'(folder / "{STEM}.npz").unlink()',
    "misname": '[p.rename(p.with_stem("05_other")) for p in folder.glob("01_demo.*")]',
}


def write_notebook(path, *cells):
    """Write a notebook of code cells, the first of which is tagged `parameters`."""
    cells = [
        {
            "cell_type": "code",
            "id": f"cell-{index}",
            "metadata": {} if index else {"tags": ["parameters"]},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for index, source in enumerate(cells)
    ]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))


PARAMETERS = """\
n: int = 3  # size
eta: float = 0.5  # step
seed: int = 0  # seed
fault: str = ""  # what to do wrong
kappas: list[float] = [1.0, 2.0]  # condition numbers
loud: bool = False  # a flag
backend: str = "numpy"  # arrays"""


def make_project(root):
    """A project with one notebook, wnlib's runner and nothing else."""
    (root / "notebooks" / "quick").mkdir(parents=True)
    (root / "wnlib").mkdir()
    (root / "wnlib" / "__init__.py").touch()
    machinery = Path(jobs.__file__).parent
    shutil.copytree(machinery, root / "wnlib" / "collection", ignore=shutil.ignore_patterns("site"))
    (root / "requirements.lock").write_text("numpy==2\n")
    (root / "build" / "matplotlib").mkdir(parents=True)
    (
        root / "build" / "matplotlib" / "fontlist-none.json"
    ).touch()  # made by the first run otherwise, in a second or two
    faults = "".join(f"if fault == {name!r}:\n    {code}\n" for name, code in FAULTS.items())
    write_notebook(root / "notebooks" / f"{STEM}.ipynb", PARAMETERS, BODY, faults or "pass", "print('end')")
    (root / "notebooks" / "quick" / f"{STEM}.yaml").write_text("n: 2\n")
    return root


def start(root, *arguments, stderr=subprocess.PIPE, preexec_fn=None, **environment):
    """Start the runner; an environment variable that is None is left out."""
    given = {name: value for name, value in (os.environ | environment).items() if value is not None}
    return subprocess.Popen(
        [sys.executable, "-m", "wnlib.collection.run", *arguments],
        cwd=root,
        env=given,
        stdout=subprocess.PIPE,
        stderr=stderr,
        preexec_fn=preexec_fn,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def call(root, *arguments, **options):
    return finish(start(root, *arguments, **options))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def survivors(root):
    """Processes of a run in this project: its environment or its command names the project's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            named = process.environ().get("WNLIB_FIGURES", "").startswith(f"{root}{os.sep}")
            if named and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition, what, seconds=30):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def asleep(root):
    """The kernel is in the sleeping cell, and so is its own child."""
    return any((root / "build" / "running").glob("*/asleep")) and any(p.name() == "sleep" for p in survivors(root))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A project whose notebook was run once."""
    root = make_project(tmp_path_factory.mktemp("runner"))
    status, out, err = call(root)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1].endswith("-> figures/01_demo.pdf; claims: 1 confirmed, 1 not observed (b)")
    return root


@pytest.fixture
def unharmed(published):
    """After a fault: the published files as before, nobody alive, nothing staged, the lock free."""
    failed = published / "build" / "failed" / f"out-{STEM}.ipynb"
    failed.unlink(missing_ok=True)
    before = contents(published / "figures"), contents(published / "out") if (published / "out").exists() else {}
    yield published
    assert (contents(published / "figures"), contents(published / "out")) == before
    assert survivors(published) == []
    assert [path for path in (published / "build" / "running").iterdir() if path.is_dir()] == []


def faulty(fault, *more):
    """Arguments of a run that goes wrong, in the output folder where one went well before."""
    return (STEM, "--output", "out", "--set", f"fault={fault}", *more)


def one_line(err):
    assert err.count("\n") == 1 and err.startswith(f"{STEM}: "), err
    return err


# --- success -----------------------------------------------------------------------------------------------


def test_record_and_executed_notebook(published):
    assert set(contents(published / "figures")) == {name.format(STEM) for name in jobs.OUTPUTS}
    record = json.loads((published / "figures" / f"{STEM}.json").read_text())
    assert record["n"] == 3 and len(record["claims"]) == 2
    assert (record["notebook"], record["profile"]) == (STEM, "paper")
    assert record["parameters"]["kappas"] == [1.0, 2.0] and record["parameters"]["fault"] == ""
    assert 0 < record["cost"]["seconds"] < 60 and 0 < record["cost"]["peak_gib"] < 2

    text = (published / "figures" / "executed" / f"{STEM}.ipynb").read_text()
    assert str(published) not in text and "papermill" not in text
    executed = json.loads(text)
    assert set(executed["metadata"]) == {"kernelspec", "language_info"}
    assert [cell["id"] for cell in executed["cells"]] == [f"cell-{i}" for i in range(4)]
    assert [cell["execution_count"] for cell in executed["cells"]] == [1, 2, 3, 4]
    assert all(set(cell["metadata"]) <= {"tags"} for cell in executed["cells"])
    stream, result = executed["cells"][1]["outputs"]
    assert stream["text"] == ["saving in figures from ./notebooks\n"]
    assert result["data"]["text/plain"] == ["<object at 0x...>"]


def test_the_executed_copy_shows_the_figure_under_the_title(tmp_path):
    import nbformat

    tagged = {"metadata": {"tags": []}}
    cells = [nbformat.v4.new_markdown_cell("# Title", **tagged), nbformat.v4.new_code_cell("pass", **tagged)]
    kernel._write_executed(nbformat.v4.new_notebook(cells=cells), tmp_path, "01_one")
    cells = json.loads((tmp_path / "executed.ipynb").read_text())["cells"]
    assert ["".join(cell["source"]) for cell in cells[:2]] == [
        "# Title",
        "![The figure of this notebook](../01_one.png)",
    ]


def test_streams_are_joined_as_a_reader_saw_them(tmp_path):
    import nbformat

    def stream(name, text):
        return nbformat.v4.new_output("stream", name=name, text=text)

    figure = nbformat.v4.new_output("display_data", {"image/png": "iVBOR", "text/plain": "<Figure>"})
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "f00"}, "text/plain": "bar"}
    cell = nbformat.v4.new_code_cell("pass", id="one", metadata={"tags": [], "papermill": {"duration": 1}})
    cell.outputs = [stream("stdout", "a"), stream("stdout", f"b {jobs.ROOT}"), figure, stream("stdout", "c")]
    cell.outputs.append(nbformat.v4.new_output("display_data", view))
    kernel._write_executed(nbformat.v4.new_notebook(cells=[cell]), tmp_path, "01_one")
    [cell] = json.loads((tmp_path / "executed.ipynb").read_text())["cells"]
    assert cell["metadata"] == {}
    assert [output.get("text") for output in cell["outputs"]] == [["ab ."], None, ["c"], None]
    assert cell["outputs"][3]["data"] == {"text/plain": ["bar"]}


def test_up_to_date_goes_by_content(published):
    def stale(*profile):
        status, out, err = call(published, "--stale", *profile)
        assert (status, err) == (0, "")
        return out.split()

    before = contents(published / "figures")
    assert stale() == []
    assert call(published) == (0, f"{STEM}: up to date\n", "")
    assert stale("--profile", "quick") == [STEM]
    assert stale("--backend", "auto") == []
    assert stale("--backend", "numpy") == [STEM]
    for path in published.rglob("*"):
        os.utime(path)
    assert stale() == []
    inputs = [f"notebooks/{STEM}.ipynb", "requirements.lock"]
    for name in inputs + [f"figures/{name.format(STEM)}" for name in jobs.OUTPUTS]:
        path = published / name
        kept = path.read_bytes()
        path.write_bytes(kept + b" ")
        assert stale() == [STEM], name
        path.write_bytes(kept)
        assert stale() == [], name
    (published / "wnlib" / "new.py").touch()  # what no notebook imports
    assert stale() == []
    (published / "wnlib" / "new.py").unlink()

    # Gone output and gone stamps (a fresh clone): made again, byte for byte.
    (published / "figures" / f"{STEM}.png").unlink()
    assert stale() == [STEM]
    (published / "build" / "stamps" / "paper" / f"{STEM}.json").unlink()
    assert call(published)[0] == 0
    after = contents(published / "figures")
    assert {name for name in before if before[name] != after[name]} <= {f"{STEM}.json"}
    records = [json.loads(files[f"{STEM}.json"]) for files in (before, after)]
    assert all(record.pop("cost") for record in records) and records[0] == records[1]
    assert stale() == []


def test_an_edit_during_the_run_counts(tmp_path, monkeypatch):
    root = make_project(tmp_path)
    profiles = {"paper": (root / "figures", None)}
    for name, value in [("ROOT", root), ("NOTEBOOKS", root / "notebooks"), ("BUILD", root / "build")]:
        monkeypatch.setattr(jobs, name, value)
    monkeypatch.setattr(jobs, "PROFILES", profiles)
    edits = [False, True]

    def supervise(job, lock, staging, *limits):
        for name in jobs.OUTPUTS[:4]:
            (staging / name.format(STEM)).write_text('{"claims": []}')
        (staging / "executed.ipynb").touch()
        if edits.pop(0):
            (root / "requirements.lock").write_text("numpy==3\n")
        return {"seconds": 1.0, "peak_gib": 1.0}

    monkeypatch.setattr(run, "_supervise", supervise)
    for stale in (False, True):
        run.run(jobs.request(STEM))
        assert bool(jobs.why(STEM)) == stale


def test_listing_what_to_run_refuses_what_no_run_would_take(published):
    status, out, err = call(published, "--stale", "--set", "nope=1")
    assert (status, out) == (2, "") and f"{STEM} has no parameter 'nope'" in err and err.count("\n") == 1


def test_cost_stays_while_it_is_true(tmp_path):
    job = jobs.Job(STEM, "paper", None, {}, {}, tmp_path, None)
    old = {"claims": [], "n": 1, "cost": {"seconds": 10.0, "peak_gib": 0.5}}
    (tmp_path / f"{STEM}.json").write_text(json.dumps(old))
    near, far = {"seconds": 14.0, "peak_gib": 0.4}, {"seconds": 16.0, "peak_gib": 0.5}
    assert run._settled(job, {"claims": [], "n": 1}, near, False) == old["cost"]
    assert run._settled(job, {"claims": [], "n": 1}, far, False) == far
    assert run._settled(job, {"claims": [], "n": 2}, near, False) == near
    assert run._settled(job, {"claims": [], "n": 2}, far, True) == old["cost"]  # part of the work was found done
    (tmp_path / f"{STEM}.json").unlink()
    assert run._settled(job, {"claims": [], "n": 1}, far, True) == far


def test_quick_profile_and_overrides_leave_figures_alone(published):
    before = contents(published / "figures")
    status, out, err = call(published, STEM, "--profile", "quick", "--set", "eta=2", "--backend", "auto")
    assert (status, err) == (0, "") and "build/custom/01_demo.pdf" in out
    record = json.loads((published / "build" / "custom" / f"{STEM}.json").read_text())
    assert record["profile"] == "quick"
    assert record["parameters"]["n"] == 2 and record["parameters"]["backend"] == "auto"
    assert isinstance(record["parameters"]["eta"], float) and record["parameters"]["eta"] == 2.0
    executed = json.loads((published / "build" / "custom" / "executed" / f"{STEM}.ipynb").read_text())
    assert executed["cells"][1]["id"] == "injected-parameters"
    assert contents(published / "figures") == before
    assert not (published / "build" / "stamps" / "custom").exists()


def test_a_list_may_have_spaces_that_make_parts(published, monkeypatch):
    monkeypatch.setattr(jobs, "ROOT", published)
    monkeypatch.setattr(jobs, "NOTEBOOKS", published / "notebooks")
    job = jobs.request(STEM, settings=["kappas=[20,", "40,", "60]", "n=4"])
    assert job.overrides == {"kappas": [20.0, 40.0, 60.0], "n": 4}


@pytest.mark.parametrize(
    ("before", "parameters", "wanted"),
    [
        ("not observed", {"n": 2}, "1 not observed, as expected at this size (b)"),
        ("confirmed", {"n": 2}, "1 not observed, was confirmed in the reference (b)"),
        ("not observed", {"n": 3}, "1 not observed (b)"),
        (None, {"n": 2}, "1 not observed (b)"),
    ],
)
def test_alarm_is_for_what_differs_from_the_reference(tmp_path, monkeypatch, before, parameters, wanted):
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    folder = tmp_path / "tests" / "reference" / "quick"
    folder.mkdir(parents=True)
    known = {"parameters": {"n": 2}, "claims": [{"id": "b", "verdict": before}] if before else []}
    (folder / f"{STEM}.json").write_text(json.dumps(known))
    claims = [{"id": "a", "verdict": "confirmed"}, {"id": "b", "verdict": "not observed"}]
    record = {"claims": claims, "parameters": parameters, "cost": {"seconds": 1.0, "peak_gib": 1.0}}
    job = jobs.Job(STEM, "quick", None, parameters, {}, tmp_path, None)
    assert run._report(job, record).endswith(f"claims: 1 confirmed, {wanted}")


# --- requests refused before anything starts ---------------------------------------------------------------

REFUSED = {
    "n=1e-3": "--set: n of 01_demo: must be an int, not 0.001",
    "n=1e3": "--set: n of 01_demo: must be an int, not 1000.0 (write 1000)",
    "n=1.5": "must be an int, not 1.5",
    "n=true": "must be an int, not True",
    "n=": "must be an int, not None",
    "n": "must be NAME=VALUE",
    "n=[": "--set n=[: not YAML",
    "eta=1e-101": "must be from 1e-100 to 1e+100, not 1e-101",
    "eta=1e400": "must be a finite float, not inf",
    "eta=1e": "must be a finite float, not '1e'",
    "eta=.nan": "must be a finite float, not nan",
    "eta=false": "must be a finite float, not False",
    "loud=1": "must be a bool, not 1",
    "fault=no": "must be a str, not False (quote it)",
    "fault=1e3": "must be a str, not 1000.0 (quote it)",
    "kappas=3": "must be a list of float, not 3",
    "kappas=[1,x]": "must be a finite float, not 'x'",
    "kapas=[1]": "01_demo has no parameter 'kapas'; did you mean 'kappas'? it has: n, eta,",
}


@pytest.mark.parametrize("setting", REFUSED)
def test_wrong_settings_are_refused(published, monkeypatch, setting):
    monkeypatch.setattr(jobs, "ROOT", published)
    monkeypatch.setattr(jobs, "NOTEBOOKS", published / "notebooks")
    with pytest.raises(jobs.Problem) as caught:
        jobs.request(STEM, settings=[setting])
    assert caught.value.status == 2
    assert REFUSED[setting] in str(caught.value)


@pytest.mark.parametrize("number", ["1e1", "1E1", "1.0e1", "1.0e+1", "1e+1", ".1e2", "10.e0", "10", "10.0"])
def test_a_float_may_be_written_in_any_way(published, monkeypatch, number):
    monkeypatch.setattr(jobs, "ROOT", published)
    monkeypatch.setattr(jobs, "NOTEBOOKS", published / "notebooks")
    settings = [f"eta={number}", f"kappas=[1, {number}]"]
    assert jobs.request(STEM, settings=settings).overrides == {"eta": 10.0, "kappas": [1.0, 10.0]}


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("n = 3", "parameters, line 1: 'n = 3' must be 'name: type = literal'"),
        ("n: int = 10**5", "must be 'name: type = literal'"),
        ("n: int = 1.0", "must be an int, not 1.0"),
        ("n: dict = {}", "unknown type dict; use one of int, float,"),
        ("n: int = = 1", "invalid syntax"),
    ],
)
def test_wrong_parameter_cells_are_refused(tmp_path, monkeypatch, cell, message):
    monkeypatch.setattr(jobs, "NOTEBOOKS", tmp_path)
    write_notebook(tmp_path / "01_x.ipynb", cell)
    with pytest.raises(jobs.Problem, match="01_x") as caught:
        jobs.parameters_of("01_x")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["07_nope"], "no notebook '07_nope' in notebooks; there are: 01_demo\n"),
        (["--set", "kapas=1"], "--set: 01_demo has no parameter 'kapas'"),
        (["--profile", "slow"], "invalid choice: 'slow'"),
        (["--cell-timeout", "0"], "give seconds > 0"),
        (["--output", "requirements.lock/x"], "01_demo: cannot write requirements.lock"),
    ],
)
def test_refusals_take_one_line_and_start_nothing(unharmed, arguments, message):
    before = contents(unharmed)
    status, _, err = call(unharmed, *arguments)
    assert status == 2 and message in err and err.count("\n") == 1
    assert contents(unharmed) == before


def test_quick_file_is_needed_and_checked(tmp_path):
    root = make_project(tmp_path)
    path = root / "notebooks" / "quick" / f"{STEM}.yaml"
    for text, message in [
        ("- 1\n", "must map parameters to values"),
        ("n: [\n", "not YAML"),
        ("n: 1e3\n", "write 1000"),
    ]:
        path.write_text(text)
        status, _, err = call(root, "--profile", "quick")
        assert status == 2 and message in err and f"notebooks/quick/{STEM}.yaml: " in err and err.count("\n") == 1
    path.unlink()
    status, _, err = call(root, "--profile", "quick")
    assert status == 2 and "missing" in err
    assert [path.name for path in (root / "build").iterdir()] == ["matplotlib"]


# --- faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "more", "message"),
    [
        ("raise", (), "cell 4 raised ValueError: two lines; partial notebook: build/failed/out-01_demo.ipynb\n"),
        ("kill", (), "cell 4 lost its kernel, which was killed (signal 9; out of memory?); partial"),
        ("exit", (), "cell 4 RuntimeError: ended the notebook, 1 cells early; partial"),
        ("forget", (), "the notebook saved no 01_demo.npz; wnlib.figures.save(stem, …) writes them; partial"),
        (
            "misname",
            (),
            "01_demo.json, 01_demo.npz, but 05_other.json, 05_other.npz, 05_other.pdf, 05_other.png; wnlib",
        ),
        ("sleep", ("--cell-timeout", "1"), "cell 4 ran past its limit of 1 s; raise it with --cell-timeout; partial"),
        pytest.param(
            "sleep",
            ("--timeout", "15"),
            "the notebook ran past its limit of 15 s; raise it with --timeout; partial",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_faults_publish_nothing(unharmed, fault, more, message):
    status, _, err = call(unharmed, *faulty(fault, *more))
    assert status == 1 and message in one_line(err)
    partial = json.loads((unharmed / "build" / "failed" / f"out-{STEM}.ipynb").read_text())
    assert partial["cells"][-1]["source"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_everything(unharmed, number, status):
    process = start(unharmed, *faulty("sleep"))
    wait_for(lambda: asleep(unharmed), "the sleeping cell")
    process.send_signal(number)
    time.sleep(0.05)
    process.send_signal(number)  # an impatient second one changes nothing
    got, _, err = finish(process)
    assert got == status and f"cell 4: stopped by {number.name}; partial notebook: build/failed" in one_line(err)


@pytest.mark.slow
def test_two_runs_at_once_then_a_killed_runner(unharmed):
    """Only one run per output; and when the runner is killed outright, its processes follow it."""
    root = unharmed
    process = start(root, *faulty("sleep"))
    wait_for(lambda: asleep(root), "the sleeping cell")
    scratch = {Path(process.environ()["IPYTHONDIR"]).parent for process in survivors(root)}
    assert [folder.is_dir() for folder in scratch] == [True]
    status, out, err = call(root, *faulty("raise"))
    assert (status, out) == (2, "")
    assert one_line(err) == f"{STEM}: process {process.pid} is already running it into out; wait for it\n"
    # Its child still holds the lock while it lives, so that no new run can meet the end of the old one.
    [child] = [process for process in survivors(root) if "kernel.execute" in " ".join(process.cmdline())]
    child.suspend()
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    assert "is already running it" in one_line(call(root, *faulty("raise"))[2])
    child.resume()
    wait_for(lambda: not survivors(root), "the end of the orphans", 5)
    wait_for(lambda: not any(folder.exists() for folder in scratch), "the end of the sockets", 5)
    [left] = [path for path in (root / "build" / "running").iterdir() if path.is_dir()]
    assert call(root, *faulty("raise"))[0] == 1  # finds the lock free and clears what is left
    assert not left.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"claims": 1}', '{"claims": [], "n": NaN}'])
def test_a_bad_record_is_refused(tmp_path, text):
    for name in jobs.OUTPUTS[:4]:
        (tmp_path / name.format(STEM)).write_text(text)
    job = jobs.Job(STEM, "paper", None, {}, {}, tmp_path / "out", None)
    with pytest.raises(jobs.Problem, match="is not a record with claims and finite numbers") as caught:
        run._complete(job, tmp_path, {"seconds": 1.0, "peak_gib": 1.0})
    assert caught.value.status == 1


@pytest.mark.parametrize(("failures", "starts_at", "calls"), [(2, None, 3), (3, None, 3), (3, 0, 1)])
def test_only_the_start_is_retried(tmp_path, monkeypatch, failures, starts_at, calls):
    """A kernel that does not start gets two more chances; a notebook that fails gets none."""
    import papermill

    seen = []

    def execute_notebook(*arguments, on_notebook_start, **options):
        seen.append(options["config"]["ConnectionFileMixin"]["connection_file"])
        if len(seen) - 1 == starts_at:
            on_notebook_start(None)
        if len(seen) <= failures:
            raise RuntimeError("no answer")
        return "executed"

    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    task = {"stem": STEM, "scratch": str(tmp_path), "staging": str(tmp_path), "overrides": {}, "limit": 1}
    if failures == 2:
        assert kernel._papermill(task, [], None) == "executed"
    else:
        with pytest.raises(RuntimeError, match="no answer"):
            kernel._papermill(task, [], None)
    assert len(seen) == len(set(seen)) == calls


@pytest.mark.slow
def test_failure_of_a_stamped_run_then_success(published, tmp_path):
    """A failed run is not up to date and keeps the old figures; a success clears the partial notebook."""
    root = tmp_path / "copy"
    shutil.copytree(published, root)
    notebook = root / "notebooks" / f"{STEM}.ipynb"
    assert call(root, "--stale") == (0, "", "")  # nothing of its state depends on the place
    figures = contents(root / "figures")
    good = notebook.read_text()
    notebook.write_text(good.replace("print('end')", "1 / 0"))
    status, _, err = call(root)
    failed = root / "build" / "failed" / f"figures-{STEM}.ipynb"
    assert status == 1 and "cell 4 raised ZeroDivisionError: division by zero" in one_line(err)
    assert contents(root / "figures") == figures and failed.exists()
    assert call(root, "--stale")[1] == f"{STEM}\n"
    notebook.write_text(good)
    assert call(root) == (0, f"{STEM}: up to date\n", "")
    assert call(root, "--force")[0] == 0 and not failed.exists()


def test_publishing_is_all_or_nothing(tmp_path, monkeypatch):
    """A full disk while the fourth file is copied: the first three are not replaced either."""
    staging, output = tmp_path / "staging", tmp_path / "out"
    (output / "executed").mkdir(parents=True)
    staging.mkdir()
    for name in jobs.OUTPUTS:
        (output / name.format(STEM)).write_text("old")
    for name in jobs.OUTPUTS[:4]:
        (staging / name.format(STEM)).write_text("new")
    (staging / "executed.ipynb").write_text("new")
    copy = run.shutil.copyfile

    def full(source, target):
        if Path(source).suffix == ".npz":
            raise OSError(28, "No space left on device")
        return copy(source, target)

    monkeypatch.setattr(run.shutil, "copyfile", full)
    with pytest.raises(jobs.Problem, match="No space left"):
        run._publish(jobs.Job(STEM, "paper", None, {}, {}, output, None), staging, {})
    assert contents(output) == {name.format(STEM): b"old" for name in jobs.OUTPUTS}


@pytest.fixture
def set_of_files(tmp_path, monkeypatch):
    """(publish, folder) of a stamped job whose five old outputs and stamp are there; publish() puts new ones there."""
    root = make_project(tmp_path / "project")
    for name, value in [("ROOT", root), ("NOTEBOOKS", root / "notebooks"), ("BUILD", root / "build")]:
        monkeypatch.setattr(jobs, name, value)
    monkeypatch.setattr(jobs, "PROFILES", {"paper": (root / "figures", None)})
    job = jobs.request(STEM)

    def publish(text="new"):
        staging = tmp_path / "staging"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        for name in jobs.OUTPUTS[:4]:
            (staging / name.format(STEM)).write_text(text)
        (staging / "executed.ipynb").write_text(text)
        run._publish(job, staging, jobs.inputs_of(STEM, "paper", None))

    publish("old")
    assert jobs.why(STEM) == []
    return publish, root


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("error", [PermissionError(1, "Operation not permitted"), KeyboardInterrupt()])
def test_when_one_of_the_set_cannot_be_replaced(set_of_files, monkeypatch, at, error):
    """On an error all are back, and it says so; after a kill, the next command finds the set mixed."""
    publish, root = set_of_files
    before, replace, count = contents(root), os.replace, iter(range(99))

    def failing(source, target):
        if next(count) == at:
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    killed = isinstance(error, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt if killed else jobs.Problem, match=None if killed else "files are back"):
        publish()
    monkeypatch.setattr(os, "replace", replace)
    if killed:
        assert (jobs.why(STEM) == []) == (at == 0)
        publish()
        assert jobs.why(STEM) == []
    else:
        assert contents(root) == before


@pytest.mark.parametrize("name", [*jobs.OUTPUTS, "stamp"])
def test_a_folder_where_a_file_belongs_leaves_the_set_old(set_of_files, name):
    publish, root = set_of_files
    path = jobs.stamp_of(STEM, "paper") if name == "stamp" else root / "figures" / name.format(STEM)
    path.unlink()
    path.mkdir()
    before = contents(root)
    with pytest.raises(jobs.Problem, match="cannot publish in figures: "):
        publish()
    assert contents(root) == before


def test_what_cannot_be_put_back_is_named(set_of_files, monkeypatch):
    publish, _ = set_of_files
    replace, count = os.replace, iter(range(99))

    def failing(source, target):
        if next(count) >= 2:
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(jobs.Problem, match=rf"new are now {STEM}\.json, {STEM}\.pdf, all else is old"):
        publish()


# --- places and people ----------------------------------------------------------------------------------------

DRAWS = "import matplotlib.pyplot as plt\nplt.plot([1])\nplt.close()\nprint('drawn')"


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"HOME": None, "TMPDIR": "long", "LC_ALL": "C"},
        {"HOME": "/nonexistent", "MPLCONFIGDIR": "/proc/nope", "XDG_CACHE_HOME": "/proc/nope", "PYTHONOPTIMIZE": "2"},
    ],
    ids=lambda environment: "-".join(environment),
)
def test_whoever_runs_it_gets_the_same_copy(tmp_path, environment):
    """Also where build/ cannot be made and the checkout's path holds what paths and templates are made of."""
    root = make_project(tmp_path / "a {c}: 'b'")
    write_notebook(root / "notebooks" / f"{STEM}.ipynb", PARAMETERS, BODY, DRAWS)
    shutil.rmtree(root / "build")
    (root / "build").touch()
    if environment.get("TMPDIR"):
        folder = tmp_path / ("ä" * 40)
        folder.mkdir()
        environment = environment | {"TMPDIR": str(folder)}
    status, _, err = call(root, "--output", str(tmp_path / "out"), **environment)
    assert (status, err) == (0, "")
    cells = json.loads((tmp_path / "out" / "executed" / f"{STEM}.ipynb").read_text())["cells"]
    assert cells[2]["outputs"][0]["text"] == ["drawn\n"] and len(cells[2]["outputs"]) == 1
    assert cells[1]["outputs"][0]["text"] == ["saving in figures from ./notebooks\n"]
    status, _, err = call(root)  # to its own figures it cannot be stamped
    assert status == 2 and "choose another --output" in one_line(err)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["closed", "gone", "nowhere"])
def test_a_terminal_never_fails_a_run(tmp_path, how):
    root = make_project(tmp_path)
    shutil.copy(progress.__file__, root / "wnlib")
    if how == "closed":
        process = start(root, stderr=None, preexec_fn=lambda: os.close(2))
    else:
        ours, theirs = os.openpty()
        if how == "nowhere":  # as in a container without /dev/pts
            (root / "wnlib" / "__init__.py").write_text("import os\nos.ttyname = lambda fd: '/dev/pts/nope'\n")
        process = start(root, stderr=theirs)
        os.close(theirs)
        if how == "gone":
            wait_for(lambda: survivors(root), "the child")
            os.close(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and f"{STEM}: done in" in out


def test_a_bar_on_a_terminal_that_fails_does_not(monkeypatch):
    class Broken:
        encoding = "utf-8"

        def isatty(self):
            return True

        def write(self, text):
            raise OSError(5, "Input/output error")

        flush = fileno = isatty

    for stream in (Broken(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress.bar(10, "label", "step") as bar:
            bar.update(5)
    monkeypatch.setenv("WNLIB_TERMINAL", "/nonexistent/tty")
    assert progress.stream().isatty() is None


def child_of(root):
    return next((process for process in survivors(root) if "kernel.execute" in " ".join(process.cmdline())), None)


def test_a_killed_child_is_reported_as_that(unharmed):
    process = start(unharmed, *faulty("sleep"))
    wait_for(lambda: asleep(unharmed), "the sleeping cell")
    child_of(unharmed).kill()
    status, _, err = finish(process)
    assert status == 1 and "the process that runs it was killed (signal 9; out of memory?)" in one_line(err)


def test_the_first_error_is_shown_where_nothing_more_can_be_written(unharmed):
    import resource

    def small():
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    status, _, err = call(unharmed, *faulty("x" * 9000), preexec_fn=small)
    assert status == 1 and "File too large" in one_line(err)


@pytest.mark.slow
def test_what_killed_runs_leave_is_cleared_by_the_next(unharmed):
    process = start(unharmed, *faulty("sleep"))
    wait_for(lambda: asleep(unharmed), "the sleeping cell")
    [scratch] = {Path(process.environ()["IPYTHONDIR"]).parent for process in survivors(unharmed)}
    left = survivors(unharmed)
    process.kill()
    for other in left:
        other.kill()
    finish(process)
    assert scratch.is_dir()
    assert call(unharmed, *faulty("raise"))[0] == 1 and not scratch.exists()


@pytest.mark.slow
def test_users_settings_stay_out(tmp_path, monkeypatch):
    """Start-up files, kernels and backends of the user reach no kernel; this tree's wnlib comes first."""
    root = make_project(tmp_path / "project")
    # No assert: PYTHONOPTIMIZE would take it out.
    code = f"""\
import os, sys, wnlib
found = wnlib.__path__[0], sys.executable, __debug__, "intruder" in globals()
found += "inline" in os.environ["MPLBACKEND"], os.environ["PYTHONHASHSEED"]
if found != {(str(root / "wnlib"), sys.executable, True, False, True, "0")!r}:
    raise ValueError(found)"""
    write_notebook(root / "notebooks" / f"{STEM}.ipynb", PARAMETERS, BODY, code)
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("intruder = 1")
    (tmp_path / "start.py").write_text("intruder = 1")
    spec = tmp_path / "jupyter" / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text('{"argv": ["false"], "display_name": "x", "language": "python"}')
    monkeypatch.setenv("IPYTHONDIR", str(startup.parents[1]))
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "start.py"))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    monkeypatch.setenv("MPLBACKEND", "agg")
    status, _, err = call(root)
    assert (status, err) == (0, "")


def test_staleness_takes_no_heavy_import():
    heavy = "{'numpy', 'papermill', 'yaml', 'psutil', 'nbformat'}"
    code = f"import sys, wnlib.collection.run; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=jobs.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
