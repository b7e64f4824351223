"""The Makefile in a miniature project, with this interpreter or with an installer that only takes notes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wnlib import backend
from wnlib.collection import jobs

SAVE = """\
import json, os, pathlib, time
folder = pathlib.Path(os.environ["WNLIB_FIGURES"])
(folder.parent / f"{stem}.here").touch()
limit = time.monotonic() + 30
while len(list(folder.parent.glob("*.here"))) < 2:
    assert time.monotonic() < limit, f"{stem} runs alone"
    time.sleep(0.05)
for kind in ("pdf", "png", "npz"):
    (folder / f"{stem}.{kind}").write_text(kind)
(folder / f"{stem}.json").write_text(json.dumps({"claims": [], "n": n}))"""


def write_notebook(root, stem):
    cells = [
        {"cell_type": "code", "id": name, "source": source, "metadata": {"tags": tags}}
        | {"outputs": [], "execution_count": None}
        for name, source, tags in [
            ("parameters", f"n: int = 3  # size\nstem: str = '{stem}'  # name", ["parameters"]),
            ("save", SAVE, []),
        ]
    ]
    notebook = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    (root / "notebooks" / f"{stem}.ipynb").write_text(json.dumps(notebook))
    (root / "notebooks" / "quick" / f"{stem}.yaml").write_text("n: 2\n")


@pytest.fixture
def project(tmp_path):
    """A project without notebooks, in a folder of its own."""
    root = tmp_path / "project"
    (root / "notebooks" / "quick").mkdir(parents=True)
    (root / "wnlib").mkdir()
    (root / "wnlib" / "__init__.py").touch()
    for name in ("backend.py", "validate.py"):
        shutil.copy(jobs.ROOT / "wnlib" / name, root / "wnlib")
    machinery = Path(jobs.__file__).parent
    shutil.copytree(machinery, root / "wnlib" / "collection", ignore=shutil.ignore_patterns("site"))
    (root / "build" / "matplotlib").mkdir(parents=True)
    (
        root / "build" / "matplotlib" / "fontlist-none.json"
    ).touch()  # made by the first run otherwise, in a second or two
    for name in ("Makefile", "pyproject.toml", *(path.name for path in jobs.ROOT.glob("requirements*.lock"))):
        shutil.copy(jobs.ROOT / name, root)
    return root


# The make and the pytest that run these tests must not speak to the make under test.
ALONE = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}


def make(root, *arguments, path=None):
    """Run make there; return (exit status, stdout, stderr, seconds)."""
    start = time.monotonic()
    done = subprocess.run(
        [shutil.which("make"), *arguments],
        cwd=root,
        env=ALONE | ({"PATH": str(path)} if path else {}),
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr, time.monotonic() - start


PYTHON = f"PYTHON={sys.executable}"


def test_figures(project):
    """In parallel; then not at all; then one of them, by any name, in any profile, with any parameters."""
    for stem in ("01_one", "02_two"):
        write_notebook(project, stem)
    status, out, err, _ = make(project, "figures", PYTHON, *["-j2"] * (backend.processors() == 1))
    assert (status, err) == (0, ""), out  # each notebook waits for the other
    wanted = {name.format(stem) for name in jobs.OUTPUTS for stem in ("01_one", "02_two")}
    figures = project / "figures"
    assert {str(path.relative_to(figures)) for path in figures.rglob("*") if path.is_file()} == wanted

    times = []
    for _ in range(3):
        status, out, err, seconds = make(project, "figures", PYTHON)
        assert (status, out, err) == (0, "All figures are up to date.\n", "")
        times.append(seconds)
    assert min(times) < 1

    (figures / "01_one.pdf").unlink()
    status, out, _, _ = make(project, "figures", PYTHON)
    assert status == 0 and "01_one: done" in out and "02_two" not in out
    assert (figures / "01_one.pdf").exists()
    status, out, _, _ = make(project, "figures/executed/01_one.ipynb", "figures/01_one.npz", PYTHON)
    assert status == 0 and out.count("01_one: up to date\n") == 1 and ": done in" not in out

    status, out, _, _ = make(project, "figures/02_two.png", PYTHON, "PROFILE=quick")
    assert status == 0 and json.loads((project / "build/quick/02_two.json").read_text())["n"] == 2
    before = (figures / "02_two.json").read_bytes()
    status, _, _, _ = make(project, "figures/02_two.pdf", PYTHON, "PARAMS=n=7 stem=02_two")
    assert status == 0 and json.loads((project / "build/custom/02_two.json").read_text())["n"] == 7
    assert (figures / "02_two.json").read_bytes() == before


def test_published_figures_survive_a_failure_and_an_interrupt(project):
    """Left to itself, make deletes the targets of a recipe that is interrupted."""
    write_notebook(project, "01_one")
    for name in jobs.OUTPUTS:
        path = project / "figures" / name.format("01_one")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("published")
    status, _, err, _ = make(project, "figures", PYTHON, "PARAMS=stem=no/such/folder")
    assert status == 2 and "01_one: with stem=no/such/folder: cell 3 raised FileNotFoundError" in err
    command = [shutil.which("make"), "figures", PYTHON]
    process = subprocess.Popen(
        command, cwd=project, env=ALONE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    limit = time.monotonic() + 30
    while not list(project.glob("build/running/*.here")):
        assert time.monotonic() < limit and process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # what Ctrl-C does
    assert "01_one: cell 2: stopped by SIGINT" in process.communicate(timeout=30)[1] and process.returncode != 0
    for name in jobs.OUTPUTS:
        assert (project / "figures" / name.format("01_one")).read_text() == "published"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["figures", "PROFILE=slow"], "PROFILE=slow: choose paper, quick or extended"),
        (["figures", "BACKEND=abacus"], "BACKEND=abacus: choose auto, numpy or cupy"),
        (["test", "ONLY=abacus"], "ONLY=abacus: choose the NAME of a tests/NAME or tests/test_NAME.py, or ROOM/NAME"),
        (["test", "ONLY=collection/x y"], "ONLY=collection/x y: choose the NAME of a tests/NAME"),
        (["figures", "PYTHON=no-such-python"], "PYTHON=no-such-python: not found"),
        (["fgures"], "no target fgures: did you mean figures?; make help lists all"),
        (["zzzz'; touch harm; '"], "no target zzzz'; touch harm; '; make help lists all"),
        (
            ["figures/01_onne.pdf", PYTHON],
            "no notebook '01_onne' in notebooks; did you mean '01_one'? there are: 01_one",
        ),
        (["figures/07_no.pdf", PYTHON], "no notebook '07_no' in notebooks; there are: 01_one"),
        (["figures/01_one.pdf", PYTHON, "PARAMS=m=1"], "--set: 01_one has no parameter 'm'; it has: n, stem"),
    ],
)
def test_bad_requests_take_one_line(project, arguments, message):
    write_notebook(project, "01_one")
    status, _, err, _ = make(project, *arguments)
    lines = [line for line in err.splitlines() if not (line.startswith("make: ***") and message not in line)]
    assert status == 2 and len(lines) == 1 and message in lines[0], err
    assert not any((project / name).exists() for name in ("figures", ".venv", "harm"))


@pytest.mark.parametrize(
    ("only", "path"), [("sweep", "sweep"), ("collection/run", "collection/test_run.py"), ("fits", "./test_fits.py")]
)
def test_a_room_s_tests_or_a_file_s_are_run_alone(project, only, path):
    for name in ("sweep/test_sweep.py", "collection/test_run.py", "test_fits.py"):
        (project / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (project / "tests" / name).touch()
    status, out, err, _ = make(project, "-n", "test", f"ONLY={only}", PYTHON)
    assert (status, err) == (0, "") and out.rstrip().endswith(f"-m 'not slow' 'tests/{path}'") and "ruff" not in out


def test_python_that_lacks_packages(project):
    bare = project / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')  # -S: without site-packages
    bare.chmod(0o755)
    status, _, err, _ = make(project, "figures", f"PYTHON={bare}")
    assert status == 2 and "it lacks array-api-compat, numpy," in err and "pip install -r requirements.lock" in err


@pytest.mark.parametrize(
    "odd", ["$(shell touch pwned)", "a;touch pwned", "';touch pwned;'", "`touch pwned`", "$$(touch pwned)"]
)
@pytest.mark.parametrize(
    "arguments",
    [
        ["figures", "PARAMS=stem={}"],
        ["figures", "PROFILE=quick {}"],
        ["figures", "BACKEND={}"],
        ["figures", "BACKEND=numpy {}"],
        ["figures/{}.pdf"],
        ["figures/01_one{}.pdf"],
        ["test", "ONLY={}"],
        ["why", "PYTHON={}"],
    ],
)
def test_nothing_that_is_typed_is_run(project, arguments, odd):
    write_notebook(project, "01_one")
    arguments = [argument.format(odd) for argument in arguments]
    named = [] if any("PYTHON=" in argument for argument in arguments) else [PYTHON]
    make(project, *arguments, *named)
    assert not list(project.rglob("pwned"))


@pytest.mark.parametrize("name", ["01_a b", "01_it's", "01_a;b", "01_ä"])
def test_a_notebook_is_named_by_letters_digits_and_underscores(project, name):
    write_notebook(project, "01_one")
    write_notebook(project, name)
    status, _, err, _ = make(project, "figures", PYTHON)
    assert status == 2 and f"notebooks/{name}.ipynb: rename it NN_slug, of letters, digits and _\n" in err


def test_python_in_a_folder_with_a_space(project):
    folder = project / "two words"
    folder.mkdir()
    script(folder / "python", f'exec {sys.executable} "$@"')
    status, out, err, _ = make(project, "figures", f"PYTHON={folder}/python")
    assert (status, out, err) == (0, "All figures are up to date.\n", "")


def test_clean_empties_a_build_that_is_a_link(project):
    elsewhere = project / "elsewhere"
    (elsewhere / "stamps").mkdir(parents=True)
    (elsewhere / "sweeps").mkdir()
    shutil.rmtree(project / "build")
    (project / "build").symlink_to(elsewhere)
    assert make(project, "clean")[0] == 0
    assert [path.name for path in elsewhere.iterdir()] == ["sweeps"] and (project / "build").is_symlink()


def test_two_makes_set_one_clone_up_once(project, tools):
    script(tools / "nap", "sleep 0.3")
    (tools / "uv").write_text((tools / "uv").read_text().replace("case $1", "nap\ncase $1"))
    (tools / "sleep").symlink_to(shutil.which("sleep"))
    command = [shutil.which("make"), "figures"]
    pair = [subprocess.Popen(command, cwd=project, env=ALONE | {"PATH": str(tools)}) for _ in range(2)]
    assert [process.wait() for process in pair] == [0, 0]
    assert len(asked(tools)) == 3


def test_help_lists_every_target(project):
    status, out, _, _ = make(project)
    assert status == 0
    for target in (
        "figures",
        "quick",
        "test",
        "claims",
        "verify",
        "references",
        "gallery",
        "lock",
        "info",
        "clean",
        "help",
    ):
        assert f"  make {target} " in out
    for variable in ("PROFILE=", "BACKEND=", "PARAMS=", "PYTHON="):
        assert variable in out


# --- setting up .venv, with a `uv` that notes what it was asked for ------------------------------------------


@pytest.fixture
def tools(tmp_path):
    """A PATH of its own: a shell's tools, a `python3`, and a `uv` that writes to the file `log` beside them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "sed", "awk", "cksum", "tr", "rm", "touch", "mkdir", "printf", "chmod", "cat"):
        (folder / name).symlink_to(shutil.which(name))
    script(folder / "python3", f'exec {sys.executable} "$@"')
    script(
        folder / "uv",
        f"""
echo "$@" >> {folder}/log
case $1 in venv) mkdir -p .venv/bin && printf '#!/bin/sh\\nexec {sys.executable} "$@"\\n' > .venv/bin/python
chmod +x .venv/bin/python;; esac
test ! -e {folder}/broken""",
    )
    return folder


def script(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def asked(tools):
    """What uv was asked for since the last call."""
    log = tools / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [" ".join(word for word in line.split() if word != "--quiet") for line in lines]


def test_venv_is_made_once_per_lock(project, tools):
    (tools / "broken").touch()
    assert make(project, "figures", path=tools)[0] == 2 and asked(tools)
    assert not list(project.glob(".venv/lock-*"))
    (tools / "broken").unlink()

    status, out, err, _ = make(project, "figures", path=tools)
    assert (status, err) == (0, "") and "Setting up .venv" in out
    venv, install, editable = asked(tools)
    assert venv.startswith("venv --python ")
    assert install == "pip install --python .venv/bin/python --require-hashes -r requirements.lock"
    assert editable == "pip install --python .venv/bin/python --no-build-isolation --editable . --no-deps"
    os.utime(project / "requirements.lock")
    status, out, _, _ = make(project, "figures", path=tools)
    assert (status, out, asked(tools)) == (0, "All figures are up to date.\n", [])
    with (project / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    assert make(project, "figures", path=tools)[0] == 0
    assert len(asked(tools)) == 3


def test_cupy_is_installed_once_for_the_driver(project, tools):
    status, _, err, _ = make(project, "figures", "BACKEND=cupy", path=tools)
    assert status == 2 and "BACKEND=cupy: no nvidia-smi on PATH" in err
    asked(tools)
    script(tools / "nvidia-smi", "echo '| NVIDIA-SMI 470.1   Driver Version: 470.1   CUDA Version: 11.4 |'")
    status, _, err, _ = make(project, "figures", "BACKEND=cupy", path=tools)
    assert status == 2 and "CUDA version '11'; 12 and 13 are supported" in err
    for line, extra in [("CUDA Version: 12.8", "cuda12"), ("CUDA UMD Version: 13.0", "cuda13")]:
        script(tools / "nvidia-smi", f"echo '| NVIDIA-SMI 570.1   Driver Version: 570.1   {line}     |'")
        assert make(project, "figures", "BACKEND=cupy", path=tools)[0] == 0
        pinned = f"pip install --python .venv/bin/python --require-hashes -r requirements-{extra}.lock"
        assert asked(tools) == [pinned]
        assert make(project, "figures", "BACKEND=cupy", path=tools)[0] == 0
        assert asked(tools) == []
        (project / ".venv" / "cuda").unlink()
    assert make(project, "figures", "BACKEND=cupy", "CUDA=12", path=tools)[0] == 0
    assert asked(tools)[0].endswith(" requirements-cuda12.lock")


def test_an_old_python_is_not_taken(project, tools):
    script(tools / "python3", "exit 1")  # what the version check of an old one ends with
    status, _, err, _ = make(project, "figures", path=tools)
    assert status == 2 and err.startswith("No Python >= 3.11 on PATH: install one, or name it:")
    script(tools / "python3.12", f'exec {sys.executable} "$@"')
    assert make(project, "figures", path=tools)[0] == 0
    assert asked(tools)[0].endswith("/python3.12 .venv")


def test_ci_runs_the_documented_command():
    text = (jobs.ROOT / ".ci" / "run").read_text()
    assert text.startswith("#!/usr/bin/env bash\n") and "set -euo pipefail" in text
    assert text.rstrip().endswith("make test") and os.access(jobs.ROOT / ".ci" / "run", os.X_OK)
    assert Path(jobs.ROOT / "Makefile").read_text().count("-m pytest") == 1
