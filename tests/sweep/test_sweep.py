"""Sweeps under real faults: real processes, real signals, a real Dask cluster on 127.0.0.1, in a miniature project."""

import json
import math
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
import types

import numpy as np
import psutil
import pytest

from wnlib import backend, progress, sweep, validate
from wnlib.collection import jobs
from wnlib.sweep import __main__ as command_line
from wnlib.sweep import cells, work

STEM = "13_sample_complexity"
PARAMETERS = """\
count: int = 8  # cells
bad: int = -1  # the cell with a fault
fault: str = ""  # what it does
size: int = 3  # numbers in a result
seed: int = 0  # of all random draws
backend: str = "numpy"  # arrays"""
# Each computation leaves a file in log/, named by cell and process; a cell waits while hold/ is there.
RECOVERY = '''\
import os, pathlib, signal, time
import numpy as np
from wnlib import part
ROOT = pathlib.Path(__file__).parents[2]

def cells(*, count, bad, fault, size, seed):
    shown = [(index, fault if index == bad else "") for index in range(count)]
    return [(compute, {"index": i, "size": size, "seed": seed, "fault": f}, count - i) for i, f in shown]

def compute(*, index, size, seed, fault):
    """One cell."""
    (ROOT / "log" / f"{index}-{os.getpid()}-{time.monotonic_ns()}").touch()
    while (ROOT / "hold").exists() and (ROOT / "log").exists():
        time.sleep(0.01)
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "raise":
        raise ValueError("two\\nlines")
    if fault == "long":
        size = 10_000
    draws = np.random.default_rng([seed, index]).standard_normal(size)
    return {"draws": draws.tolist(), "odd": [float("nan"), float("inf"), -0.0, 5e-324], "scale": part.SCALE}
'''


@pytest.fixture
def project(tmp_path):
    """A project of one notebook that draws a sweep, with the real sweep and a miniature of its cells."""
    root = tmp_path / "project"
    for folder in ("notebooks", "wnlib", "log"):
        (root / folder).mkdir(parents=True)
    for module in (backend, progress, validate):
        shutil.copy(module.__file__, root / "wnlib")
    for household in ("collection", "sweep"):
        source = jobs.ROOT / "wnlib" / household
        shutil.copytree(source, root / "wnlib" / household, ignore=shutil.ignore_patterns("site"))
    (root / "wnlib" / "__init__.py").touch()
    (root / "wnlib" / "maps").mkdir()
    (root / "wnlib" / "maps" / "__init__.py").touch()
    (root / "wnlib" / "maps" / "complexity.py").write_text(RECOVERY)
    (root / "wnlib" / "part.py").write_text("SCALE = 1\n")
    cell = {"cell_type": "code", "id": "parameters", "metadata": {"tags": ["parameters"]}, "source": PARAMETERS}
    notebook = {"cells": [cell | {"outputs": [], "execution_count": None}], "metadata": {}}
    (root / "notebooks" / f"{STEM}.ipynb").write_text(json.dumps(notebook | {"nbformat": 4, "nbformat_minor": 5}))
    yield root
    shutil.rmtree(root / "log")  # whatever is still held ends


def environment(root, **more):
    kept = {name: value for name, value in os.environ.items() if name not in ("WNLIB_SWEEPS", "SCHEDULER")}
    return kept | {"PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1"} | more


def start(root, command, *arguments, preexec_fn=None, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "wnlib.sweep", command, STEM, *arguments],
        cwd=root,
        env=environment(root, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=preexec_fn,
    )


def finish(process):
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def call(root, *arguments, **more):
    return finish(start(root, *arguments, **more))


def computed(root):
    """How often each cell was begun, by index."""
    begun = [int(path.name.split("-")[0]) for path in (root / "log").iterdir()]
    return [begun.count(index) for index in range(max(begun, default=-1) + 1)]


def wait_for(condition, what, seconds=60):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited {seconds} s for {what}"
        time.sleep(0.02)


def finished(root):
    return list((root / "build" / "sweeps").glob("*.json"))


def workers(process):
    """The processes that compute for a sweep; not multiprocessing's resource tracker."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


ONE = ("--processes", "1")  # more only cost their start


def table(root, *arguments):
    status, out, err = call(root, "collect", *arguments)
    assert (status, err) == (0, "")
    return out


@pytest.fixture(scope="module")
def serial():
    """The table of the miniature project's eight cells, computed here one after another."""
    lines = []
    for index in range(8):
        draws = np.random.default_rng([0, index]).standard_normal(3).tolist()
        result = {"draws": draws, "odd": [float("nan"), float("inf"), -0.0, 5e-324], "scale": 1}
        parameters = {"index": index, "size": 3, "seed": 0, "fault": ""}
        line = {"function": "wnlib.maps.complexity.compute", "parameters": parameters, "result": result}
        lines.append(json.dumps(line, sort_keys=True))
    return "\n".join(lines) + "\n"


# --- processes -------------------------------------------------------------------------------------------------


def test_run_status_collect(project, serial):
    status, out, err = call(project, "status")
    assert status == 0 and "0 of 8 cells finished; run one shard of many (--shard 1/500) for" in out
    status, out, err = call(project, "collect")
    assert (status, out) == (1, "") and "8 of 8 cells are not finished; compute them with run" in err
    assert call(project, "run", "--shard", "2/3") == (
        0,
        f"{STEM}, profile paper, shard 2/3: 3 of 3 cells finished\n",
        "",
    )
    assert computed(project) == [0, 1, 0, 0, 1, 0, 0, 1]
    status, out, err = call(project, "status")
    assert "3 of 8 cells finished; the rest will take about" in out and "judged by 3 finished cells" in out
    assert call(project, "run", "--processes", "1")[0] == 0
    assert computed(project) == [1] * 8 and table(project) == serial
    assert call(project, "run") == (0, f"{STEM}, profile paper: 8 of 8 cells finished\n", "")
    assert computed(project) == [1] * 8


def test_a_sweep_is_judged_by_its_own_cells_alone(project):
    """Cells of another size may cost fifty times less for the same work."""
    assert call(project, "run", *ONE, "--set", "size=1", "--shard", "1/8")[0] == 0
    assert call(project, "status")[1].endswith(
        "0 of 8 cells finished; run one shard of many (--shard 1/500) for an estimate of the rest\n"
    )
    assert call(project, "status", "--set", "size=1")[1].endswith("core hours, judged by 1 finished cell\n")


def test_only_what_can_change_a_result_is_in_its_address(project):
    recovery, part = project / "wnlib" / "maps" / "complexity.py", project / "wnlib" / "part.py"
    assert call(project, "run", *ONE)[0] == 0
    recovery.write_text("# A comment.\n" + recovery.read_text().replace("One cell.", "One of the cells."))
    (project / "wnlib" / "progress.py").write_text((project / "wnlib" / "progress.py").read_text() + "\nUNUSED = 1\n")
    assert call(project, "run", *ONE)[0] == 0 and computed(project) == [1] * 8
    part.write_text("SCALE = 2\n")  # imported by the module of the cells
    assert call(project, "run", *ONE)[0] == 0 and computed(project) == [2] * 8
    assert call(project, "run", *ONE, "--set", "seed=1")[0] == 0 and computed(project) == [3] * 8
    part.write_text("SCALE = 1\n")  # what was computed then is found again
    assert call(project, "run", *ONE)[0] == 0 and computed(project) == [3] * 8


def test_a_killed_parent_loses_nothing_and_leaves_nobody(project, serial):
    (project / "hold").mkdir()
    process = start(project, "run", "--processes", "2")
    wait_for(lambda: len(computed(project)) and sum(computed(project)) == 2, "two cells under way")
    orphans = workers(process)
    assert len(orphans) == 2
    (project / "hold").rmdir()
    wait_for(lambda: len(finished(project)) >= 3, "three finished cells")
    process.kill()
    process.wait()
    process.communicate()
    psutil.wait_procs(orphans, timeout=30)
    assert not any(orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE for orphan in orphans)
    kept, begun = len(finished(project)), sum(computed(project))
    assert call(project, "run", *ONE)[0] == 0
    assert sum(computed(project)) - begun == 8 - kept
    assert table(project) == serial


def test_a_killed_worker_costs_only_its_cells(project, serial):
    (project / "hold").mkdir()
    process = start(project, "run", "--processes", "2")
    wait_for(lambda: sum(computed(project)) == 2, "two cells under way")
    workers(process)[0].kill()
    (project / "hold").rmdir()
    status, out, err = finish(process)
    assert (status, err) == (0, "") and "8 of 8 cells finished" in out
    assert table(project) == serial and max(computed(project)) <= 2 and sum(computed(project)) <= 8 + 4


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("kill", "lost its worker 3 times; out of memory?"),
        ("raise", "ValueError('two\\nlines')"),
    ],
)
def test_a_bad_cell_is_reported_and_the_rest_finished(project, fault, reason):
    status, out, err = call(project, "run", "--set", "bad=3", "--set", f"fault={fault}", "--processes", "2")
    shown = f"wnlib.maps.complexity.compute(index=3, size=3, seed=0, fault='{fault}')"
    first, last = err.splitlines()
    assert first == f"{shown}: {reason}"
    assert (status, out) == (1, "") and last == f"1 of 8 cells failed, the first {shown}; the rest are kept"
    assert len(finished(project)) == 7
    assert computed(project)[3] == (3 if fault == "kill" else 1)
    innocent = [count for index, count in enumerate(computed(project)) if index != 3]
    assert min(innocent) == 1 and max(innocent) <= 2


@pytest.mark.slow
def test_a_full_disk_stops_the_sweep_with_a_line(project, serial):
    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    full = ("--set", "bad=5", "--set", "fault=long", "--processes", "1")
    status, out, err = finish(start(project, "run", *full, preexec_fn=small_files))
    assert (status, out) == (1, "") and len(err.splitlines()) == 1
    assert "cannot write build/sweeps/" in err and "File too large; the cells before it are kept" in err
    assert len(finished(project)) == 5 and not list((project / "build" / "sweeps").glob("*.part"))
    assert call(project, "run", *ONE)[0] == 0 and table(project) == serial


def test_an_unwritable_folder_is_refused(project):
    (project / "build").touch()  # a file where the folder should be
    status, _, err = call(project, "run")
    assert status == 2 and err == "cannot write build/sweeps: Not a directory; set WNLIB_SWEEPS\n"
    assert not computed(project)
    status, _, err = call(project, "run", *ONE, WNLIB_SWEEPS=str(project / "elsewhere"))
    assert (status, err) == (0, "") and len(list((project / "elsewhere").glob("*.json"))) == 8


@pytest.mark.parametrize(
    ("mode", "owner", "groups", "trusted"),
    [
        (0o755, 7, (), True),
        (0o775, 7, (), True),
        (0o757, 7, (), False),
        (0o1777, 7, (), False),
        (0o755, 8, (5,), False),
        (0o775, 8, (), False),
        (0o2775, 8, (5,), True),
    ],
)
def test_a_folder_of_cells_is_not_strangers(monkeypatch, tmp_path, mode, owner, groups, trusted):
    monkeypatch.setattr(cells.os, "geteuid", lambda: 7)
    monkeypatch.setattr(cells.os, "getegid", lambda: 7)
    monkeypatch.setattr(cells.os, "getgroups", lambda: list(groups))
    found = types.SimpleNamespace(st_mode=0o40000 | mode, st_uid=owner, st_gid=5)
    place = types.SimpleNamespace(stat=lambda: found, is_relative_to=lambda root: False)
    if trusted:
        cells._trusted(place)
    else:
        with pytest.raises(jobs.Problem, match="others could put results there"):
            cells._trusted(place)


@pytest.mark.parametrize("name", ["lock", "a cell"])
def test_pipes_and_links_in_the_folder_hold_nobody_up(project, serial, name):
    assert call(project, "run", *ONE)[0] == 0
    path = project / "build" / "sweeps" / "lock" if name == "lock" else finished(project)[0]
    path.unlink()
    os.mkfifo(path)
    status, out, _ = call(project, "run", *ONE)
    assert status == 0 and "8 of 8 cells finished" in out
    path.unlink()
    (project / "victim").write_text("precious")
    path.symlink_to(project / "victim")
    call(project, "run", *ONE)
    assert (project / "victim").read_text() == "precious"


def test_a_relative_folder_is_the_same_from_everywhere(project):
    assert call(project, "run", *ONE, WNLIB_SWEEPS="mine/cells")[0] == 0
    found = environment(project, WNLIB_SWEEPS="mine/cells")
    command = [sys.executable, "-m", "wnlib.sweep", "status", STEM]
    done = subprocess.run(command, cwd=project / "notebooks", env=found, capture_output=True, text=True)
    assert "8 of 8 cells finished" in done.stdout and len(list((project / "mine" / "cells").glob("*.json"))) == 8


def test_damaged_files_are_found_reported_and_computed_again(project, serial):
    assert call(project, "run", *ONE)[0] == 0
    whole = sorted(finished(project))
    truncated, altered, swapped, empty = whole[:4]
    truncated.write_bytes(truncated.read_bytes()[:-40])
    text = json.loads(altered.read_text())
    text["result"]["draws"][0] += 1e-9
    altered.write_text(json.dumps(text))
    swapped.write_bytes(whole[5].read_bytes())
    empty.write_bytes(b"\xff\x00")
    status, out, err = call(project, "status")
    assert "4 of 8 cells finished, 4 damaged" in out
    assert call(project, "collect")[0] == 1
    status, out, err = call(project, "run", *ONE)
    assert status == 0 and len(err.splitlines()) == 4
    for path in whole[:4]:
        assert f"build/sweeps/{path.name} is damaged: computing it again" in err
    assert sorted(computed(project)) == [1] * 4 + [2] * 4 and table(project) == serial


def test_two_sweeps_at_once_share_the_work(project, serial):
    (project / "hold").mkdir()
    pair = [start(project, "run", "--processes", "1") for _ in range(2)]
    wait_for(lambda: sum(computed(project)) == 2, "both at work")
    (project / "hold").rmdir()
    for status, out, err in map(finish, pair):
        assert (status, err) == (0, "") and "8 of 8 cells finished" in out
    assert computed(project) == [1] * 8 and table(project) == serial


def test_sigterm_stops_the_sweep_and_its_workers(project, serial):
    (project / "hold").mkdir()
    process = start(project, "run", "--processes", "2")
    wait_for(lambda: sum(computed(project)) == 2, "two cells under way")
    mine = workers(process)
    process.terminate()
    assert finish(process) == (128 + 15, "", "stopped by SIGTERM; the finished cells are kept\n")
    psutil.wait_procs(mine, timeout=30)
    assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in mine)
    (project / "hold").rmdir()
    assert call(project, "run", *ONE)[0] == 0 and table(project) == serial


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "3/2"], "--shard 3/2: must be I/N with 1 <= I <= N"),
        (["--shard", "two"], "--shard two: must be I/N with 1 <= I <= N"),
        (["--processes", "0"], "--processes 0: must be >= 1"),
        (["--set", "coutn=3"], "did you mean 'count'?"),
        (["--profile", "extended"], "notebooks/extended/13_sample_complexity.yaml: missing"),
    ],
)
def test_bad_requests_take_one_line(project, arguments, message):
    status, out, err = call(project, "run", *arguments)
    assert (status, out) == (2, "") and len(err.splitlines()) == 1 and message in err
    assert not computed(project)


@pytest.mark.slow
def test_a_cell_costs_little_beyond_its_own_time(project):
    """300 cells more, with nothing to compute, take at most one and a half times what a sweep of ten takes.

    Processor time of all processes together, held against the same machine's in the same minute: in seconds it would
    be a test of the machine. One of three tries: another process on the core costs processor time too.
    """

    def cost(count, seed):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        settings = ("--set", f"count={count}", "--set", f"seed={seed}")
        assert call(project, "run", *settings, "--processes", "1")[0] == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    tries = ((cost(10, seed), cost(310, 10 + seed)) for seed in (1, 2, 3))
    assert any(many <= 2.5 * few for few, many in tries)


def test_four_shards_at_once_make_the_same_table(project, serial):
    shards = [start(project, "run", "--shard", f"{i}/4", "--processes", "1") for i in (1, 2, 3, 4)]
    for i, (status, out, err) in enumerate(map(finish, shards), start=1):
        assert (status, out, err) == (0, f"{STEM}, profile paper, shard {i}/4: 2 of 2 cells finished\n", "")
    assert computed(project) == [1] * 8 and table(project) == serial


# --- Dask ------------------------------------------------------------------------------------------------------


def dask(folder, role, *arguments, **more):
    """A Dask scheduler or worker on 127.0.0.1; it has no wnlib unless PYTHONPATH gives it one."""
    command = [
        sys.executable,
        "-m",
        f"distributed.cli.dask_{role}",
        *arguments,
        "--host",
        "127.0.0.1",
        "--no-dashboard",
    ]
    bare = folder / "bare"
    bare.mkdir(exist_ok=True)
    (bare / "sitecustomize.py").write_text("import sys\nsys.modules['wnlib'] = None\n")
    settings = {"PYTHONPATH": str(bare), "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"} | more
    log = (folder / "dask.log").open("ab")
    with log:
        return subprocess.Popen(command, cwd=folder, env=environment(folder, **settings), stdout=log, stderr=log)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("scheduler")
    process = dask(folder, "scheduler", "--port", "0", "--scheduler-file", str(folder / "address.json"))
    wait_for((folder / "address.json").exists, "the scheduler")
    yield json.loads((folder / "address.json").read_text())["address"]
    process.kill()
    process.wait()


@pytest.fixture
def join(scheduler, tmp_path):
    """A function that starts a worker of the scheduler, with the wnlib in `root` if it is given one."""
    started = []

    def join(root=None):
        more = {"PYTHONPATH": str(root)} if root else {}
        started.append(dask(tmp_path, "worker", scheduler, "--nthreads", "1", "--no-nanny", **more))
        return started[-1]

    yield join
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_dask_survives_the_loss_of_all_its_workers(project, serial, scheduler, join):
    (project / "hold").mkdir()
    process = start(project, "run", SCHEDULER=scheduler)
    assert "no workers; waiting for some to join" in process.stderr.readline()
    first = join(project)
    wait_for(lambda: sum(computed(project)) == 1, "a cell under way")
    first.kill()
    second = join(project)
    wait_for(lambda: sum(computed(project)) == 2, "a cell under way again")
    (project / "hold").rmdir()
    status, out, _ = finish(process)
    assert status == 0 and "8 of 8 cells finished" in out and second.poll() is None
    assert sum(computed(project)) == 9 and table(project) == serial


@pytest.mark.slow
def test_a_cell_that_kills_dask_workers_is_reported_and_the_rest_finished(project, scheduler, join):
    crew = [join(project) for _ in range(work.LOST + 1)]
    status, out, err = call(project, "run", "--set", "bad=3", "--set", "fault=kill", SCHEDULER=scheduler)
    assert (status, out) == (1, "") and "fault='kill'): lost its worker 3 times; out of memory?\n" in err
    assert len(finished(project)) == 7 and computed(project)[3] == 3
    assert [worker.poll() for worker in crew].count(None) == 1


@pytest.mark.slow
@pytest.mark.parametrize("lacking", ["wnlib", "this wnlib"])
def test_a_dask_worker_without_this_wnlib_is_named(project, scheduler, join, lacking):
    other = None
    if lacking == "this wnlib":
        other = project.parent / "other"
        shutil.copytree(project, other)
        (other / "wnlib" / "part.py").write_text("SCALE = 2\n")
    join(other)
    status, out, err = call(project, "run", SCHEDULER=scheduler)
    last = err.splitlines()[-1]
    assert (status, out) == (1, "") and last.startswith("a worker cannot compute this sweep: ") and "wnlib" in last
    assert last.endswith("give it this wnlib, unchanged")
    assert not computed(project) and not finished(project)


@pytest.mark.slow
def test_a_lost_scheduler_stops_the_sweep(project, tmp_path, serial):
    own = dask(tmp_path, "scheduler", "--port", "0", "--scheduler-file", str(tmp_path / "address.json"))
    wait_for((tmp_path / "address.json").exists, "the scheduler")
    address = json.loads((tmp_path / "address.json").read_text())["address"]
    patience = {"SCHEDULER": address, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s"}
    process = start(project, "run", **patience)
    assert "no workers" in process.stderr.readline()
    own.kill()
    own.wait()
    status, out, err = finish(process)
    assert (status, out) == (1, "") and f"SCHEDULER={address}: lost; the cells before are kept" in err
    status, out, err = call(project, "run", SCHEDULER=address)
    assert (status, out) == (2, "") and f"SCHEDULER={address}: no Dask scheduler answers there" in err


@pytest.fixture
def silent():
    """The address of a port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (None, "no Dask scheduler answers there (silent for 2 s)"),
        ("http://127.0.0.1:1", "must be tcp://host:port, or tls://host:port"),
        ("nonsense", "must be tcp://host:port, or tls://host:port"),
        ("tls://127.0.0.1:1", "no Dask scheduler answers there (TLS expects a `ssl_context`"),
    ],
)
def test_what_is_no_scheduler_is_named_in_one_line(project, silent, address, message):
    pytest.importorskip("distributed")
    address = address or silent
    patience = project / "wnlib" / "sweep" / "executors.py"
    shorter = re.sub(r"(?m)^ANSWER_SECONDS = 10\b", "ANSWER_SECONDS = 2", patience.read_text())
    assert shorter != patience.read_text()
    patience.write_text(shorter)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    status, out, err = call(project, "run", SCHEDULER=address)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    importing = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert (status, out) == (2, "") and f"SCHEDULER={address}: {message}" in err and err.count("\n") == 1
    assert time.monotonic() - start < 12 + 4 * importing  # on a busy machine importing Dask alone takes long


@pytest.mark.slow
def test_tls_by_dasks_own_settings(project, tmp_path, serial):
    """With certificates of our own: who has none is not answered; who has gets the same table."""
    pytest.importorskip("distributed")
    if not shutil.which("openssl"):
        pytest.skip("no openssl on PATH, which makes the certificates")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=wnlib"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": str(certificate)}
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        tls |= {
            f"DASK_DISTRIBUTED__COMM__TLS__{role}__{n}": str(f) for n, f in {"CERT": certificate, "KEY": key}.items()
        }
    file = tmp_path / "address.json"
    ours = dask(tmp_path, "scheduler", "--protocol", "tls", "--port", "0", "--scheduler-file", str(file), **tls)
    wait_for(file.exists, "the scheduler")
    address = json.loads(file.read_text())["address"]
    helper = dask(tmp_path, "worker", address, "--nthreads", "1", "--no-nanny", PYTHONPATH=str(project), **tls)
    try:
        assert address.startswith("tls://")
        status, out, err = call(project, "run", SCHEDULER=address.replace("tls", "tcp"))
        assert (status, out) == (2, "") and "no Dask scheduler answers there" in err and err.count("\n") == 1
        status, out, err = call(project, "run", SCHEDULER=address, **tls)
        assert status == 0 and "8 of 8 cells finished" in out and table(project) == serial
    finally:
        for process in (helper, ours):
            process.kill()
            process.wait()


# --- the notebook ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_figure_is_the_same_whether_its_cells_were_found_or_computed(tmp_path):
    """Computed by two processes that the kernel starts, then found."""
    outputs, cells = [], []
    for _ in range(2):
        outputs.append(tmp_path / f"out{len(outputs)}")
        smaller = ["--set", "processes=2", "--set", "points=3", "--set", "rip_ranks=[3]"]
        asked = ["--profile", "quick", *smaller, "--output", str(outputs[-1])]
        command = [sys.executable, "-m", "wnlib.collection.run", STEM, *asked]
        folder = environment(jobs.ROOT, WNLIB_SWEEPS=str(tmp_path / "cells"))
        done = subprocess.run(command, cwd=jobs.ROOT, env=folder, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        cells.append({path.name: path.stat().st_mtime_ns for path in (tmp_path / "cells").glob("*.json")})
    assert cells[0] == cells[1] and len(cells[0]) > 1
    for name in (f"{STEM}.pdf", f"{STEM}.png", f"{STEM}.npz", f"executed/{STEM}.ipynb"):
        computed, found = [(output / name).read_bytes() for output in outputs]
        assert computed == found


def test_the_extended_map_is_listed_without_running_anything():
    assert jobs.stems("extended") == list(command_line.SWEEPS)
    cells = command_line.cells_of(STEM, "extended")
    addresses = [cell.address for cell in cells]
    assert len(cells) > 1000 and len(set(addresses)) == len(addresses)
    assert {cell.parameters["m"] for cell in cells} == {100}


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ((lambda: 1, {}), "must be a function that a worker can import"),
        ((math.sqrt, {"x": object()}), "parameters of math.sqrt: must be what JSON can hold"),
        ((3, {}), "cell 3: must be a function"),
    ],
)
def test_what_is_no_cell_is_refused(cell, message, monkeypatch, tmp_path):
    monkeypatch.setenv("WNLIB_SWEEPS", str(tmp_path / "cells"))
    with pytest.raises(TypeError, match=message):
        sweep.run([cell])
    assert not (tmp_path / "cells").exists()
