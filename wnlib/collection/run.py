"""Run notebooks strictly: all the outputs of a run are published together, or none is.

    python -m wnlib.collection.run [STEM ...] [--profile paper|quick|extended] [--set NAME=VALUE ...] [--stale]

A run of ``NN_slug`` reads ``notebooks/NN_slug.ipynb`` and publishes ``NN_slug.{pdf,png,json,npz}`` and
``executed/NN_slug.ipynb`` in the profile's folder. The notebook saves the first four in the folder that the
environment variable WNLIB_FIGURES names; the runner adds the parameters and the cost to the json record and
cleans the executed notebook of everything that would differ in an unchanged rerun.

Exit status: 0 done or up to date; 1 a notebook failed; 2 the request was refused and nothing was started;
128 + n stopped by signal n. Problems take one line on stderr. Linux and macOS.
"""

# Only the standard library here, and little of it: `--stale` must answer in a blink.
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path

from wnlib.collection import files, jobs, kernel
from wnlib.collection.jobs import Problem

BACKENDS = ("auto", "numpy", "cupy")
# What a user sets for their own sessions and would change a result, a figure or a kernel.
FOREIGN = ("JUPYTER_", "IPYTHON", "IPYKERNEL_", "MPLBACKEND", "WNLIB_")
FOREIGN += ("PYTHONSTARTUP", "PYTHONOPTIMIZE", "PYTHONWARNINGS")


def run(job, cell_timeout=1800, timeout=3600):
    """Execute a job's notebook and publish its five outputs; return the record, with the cost of this run.

    Problem (1) when the notebook fails, runs past a limit (seconds) or leaves an output out: then no published
    file has changed, and the partial notebook lies in ``build/failed``. Problem (2) when the job is running
    already or a folder cannot be written. Where ``build`` cannot be, all this lies in the output folder. That it runs
    is said on stdout, once it does.
    """
    with _exclusive(job) as (lock, staging, scratch):
        print(f"{job.stem}: running", flush=True)
        failed = staging.parents[1] / "failed" / f"{job.output.name}-{job.stem}.ipynb"
        inputs = jobs.inputs_of(job.stem, job.profile, job.backend)  # now: they may be edited during the run
        try:
            cost = _supervise(job, lock, staging, scratch, cell_timeout, timeout)
            record = _complete(job, staging, cost)
            _publish(job, staging, inputs)
        except Problem as problem:
            asked = ", ".join(f"{setting:.60}" for setting in job.settings)
            line = f"{job.stem}: {f'with {asked}: ' if asked else ''}{problem}"
            with suppress(OSError):  # the disk may be full: then the line must do
                failed.parent.mkdir(exist_ok=True)
                shutil.copyfile(staging / "partial.ipynb", failed)
                line += f"; partial notebook: {jobs.short(failed)}"
            raise Problem(problem.status, line) from None
        failed.unlink(missing_ok=True)
    return record | {"cost": cost}


@contextmanager
def _exclusive(job):
    """Lock the job's outputs and yield (lock file, empty staging folder, scratch); check that we can publish.

    The child inherits the lock, so that it holds until the last process that could write is gone. Whatever
    lies in the staging folder of a lock that we got is left over from a run that was killed, and so is the scratch
    folder that it names.
    """
    name = f"{job.stem}-{hashlib.sha256(bytes(job.output)).hexdigest()[:8]}"
    try:
        _writable(job.output), _writable(job.output / "executed")
        try:
            staging = _writable(jobs.BUILD / "running") / name
        except OSError:
            if job.stamp:
                raise
            staging = _writable(job.output / ".build" / "running") / name
        lock = staging.with_suffix(".lock").open("a+")
    except OSError as error:
        where = jobs.short(Path(error.filename or job.output))
        raise Problem(2, f"{job.stem}: cannot write {where} ({error.strerror}); choose another --output") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            who = f"process {lock.read()} is already running it into {jobs.short(job.output)}"
            raise Problem(2, f"{job.stem}: {who}; wait for it") from None
        lock.truncate(0)
        print(os.getpid(), end="", file=lock, flush=True)
        with suppress(OSError):
            if Path(left := os.readlink(staging / "scratch")).name.startswith("wnlib-"):
                shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        # Socket addresses hold about 100 bytes; a long temporary folder would not leave room.
        short = tempfile.gettempdir() if len(os.fsencode(tempfile.gettempdir())) < 60 else "/tmp"
        try:
            with tempfile.TemporaryDirectory(prefix="wnlib-", dir=short, ignore_cleanup_errors=True) as scratch:
                (staging / "scratch").symlink_to(scratch)
                yield lock, staging, scratch
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _writable(folder):
    folder.mkdir(parents=True, exist_ok=True)
    tempfile.TemporaryFile(dir=folder).close()
    return folder


def _supervise(job, lock, staging, scratch, cell_timeout, timeout):
    """Run papermill in a child, so that whatever happens to it or to us ends it all; return the cost."""
    task = dict(job._asdict(), output=None, stamp=None, staging=str(staging), scratch=scratch, limit=cell_timeout)
    command = "import sys; from wnlib.collection import kernel; kernel.execute(sys.argv[1])"
    # The socket that is its stdin is the child's lifeline, which ends when we do, however we end; and on it, where no
    # disk can be full, it says how it went.
    ours, theirs = socket.socketpair()
    try:
        with (staging / "log.txt").open("wb") as log, theirs:
            child = subprocess.Popen(
                [sys.executable, "-c", command, json.dumps(task)],
                stdin=theirs,
                stdout=log,
                stderr=log,
                cwd=jobs.NOTEBOOKS,
                env=_environment(staging, scratch),
                pass_fds=[lock.fileno()],
                start_new_session=True,  # a Ctrl-C is for us alone, and we see to the rest
            )
        child.wait(timeout)
        ours.setblocking(False)
        outcome = json.loads(ours.recv(2**16))
    except subprocess.TimeoutExpired:
        line = f"the notebook ran past its limit of {timeout:g} s; raise it with --timeout"
        raise Problem(1, f"{_cell(staging)}: {line}") from None
    except Problem as stopped:
        raise Problem(stopped.status, f"{_cell(staging)}: {stopped}") from None
    except (BlockingIOError, ValueError):  # it ended without a word
        if (status := child.returncode) < 0:
            said = kernel.killed(-status)
        else:
            log = (staging / "log.txt").read_text(errors="replace").strip().splitlines()
            said = f"exited ({status}): {log[-1] if log else 'no message'}"
        raise Problem(1, f"{_cell(staging)}: the process that runs it {said}") from None
    finally:
        kernel.kill_marked(str(staging))
        ours.close()
    if "error" in outcome:
        raise Problem(1, f"{_cell(staging)} {outcome['error']}")
    return outcome


def _environment(staging, scratch):
    """The kernel's environment: this tree's wnlib, this Python's kernel, none of the user's start-up files."""
    import importlib.util

    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    home = staging.parents[1]  # build/, or what stands for it
    matplotlib = Path(importlib.util.find_spec("matplotlib").origin).parent
    environment |= {
        "WNLIB_FIGURES": str(staging),  # also the mark by which the processes of this run are found
        "WNLIB_SWEEPS": str(jobs.ROOT / (os.environ.get("WNLIB_SWEEPS") or home / "sweeps")),
        # The root, seen from the notebooks: the path itself may hold what separates paths.
        "PYTHONPATH": os.pathsep.join(["..", *filter(None, [environment.get("PYTHONPATH")])]),
        "PYTHONHASHSEED": "0",
        "MATPLOTLIBRC": str(matplotlib / "mpl-data" / "matplotlibrc"),
        "MPLCONFIGDIR": str(home / "matplotlib"),  # its cache: the user's may not be writable, and it would say so
        "TMPDIR": scratch,
        "JUPYTER_PATH": f"{scratch}/jupyter",  # searched first; execute() puts this Python's kernel there
        "JUPYTER_DATA_DIR": f"{scratch}/jupyter",
        "JUPYTER_CONFIG_DIR": f"{scratch}/config",
        "IPYTHONDIR": f"{scratch}/ipython",
    }
    # On a busy core BLAS threads wait for each other: ten times slower. Use the cores with make -j.
    for library in ("OPENBLAS", "MKL", "OMP"):
        environment.setdefault(f"{library}_NUM_THREADS", "1")
    # Or glibc hands a step's arrays back to the system and fetches them again: up to a quarter of the time.
    environment = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**28)} | environment
    with suppress(OSError):  # none, or one without a name here
        environment["WNLIB_TERMINAL"] = os.ttyname(sys.stderr.fileno())
    return environment


def _cell(staging):
    """The cell that was running, numbered as in ``In [n]``."""
    try:
        return f"cell {(staging / 'cell').read_text()}"
    except OSError:
        return "before the first cell"


def _complete(job, staging, cost):
    """Check that the notebook saved its four files and add what the runner knows to the record."""
    saved = [name.format(job.stem) for name in jobs.OUTPUTS[:4]]
    if missing := [name for name in saved if not (staging / name).is_file()]:
        others = sorted({p.name for kind in jobs.OUTPUTS[:4] for p in staging.glob(kind.format("*"))} - set(saved))
        saved = f"{', '.join(missing)}, but {', '.join(others)}" if others else ", ".join(missing)
        raise Problem(1, f"the notebook saved no {saved}; wnlib.figures.save(stem, …) writes them")
    path = staging / f"{job.stem}.json"
    try:
        record = files.parsed(path)
        record["claims"] = [claim | {"id": claim["id"], "verdict": claim["verdict"]} for claim in record["claims"]]
        record |= {"notebook": job.stem, "profile": job.profile, "parameters": job.parameters}
        rounded = {name: float(f"{value:.2g}") for name, value in cost.items()}
        record["cost"] = _settled(job, record, rounded, (staging / jobs.RESUMED).exists())
        text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False)
    except Exception as error:
        raise Problem(1, f"{path.name} is not a record with claims and finite numbers: {error!r}") from None
    path.write_text(text + "\n", encoding="utf-8")
    return record


def _settled(job, record, cost, resumed):
    """The published cost, where it is the better one.

    That is when nothing else changed and it still tells the truth: a rerun then gives no diff. And when this run found
    part of its work done: then its own cost is not that of the whole.
    """
    try:
        old = files.parsed(job.output / f"{job.stem}.json")
        if resumed:
            return old["cost"]
        close = all(1 / 1.5 <= cost[name] / old["cost"][name] <= 1.5 for name in cost)
        return old["cost"] if close and {**old, "cost": cost} == {**record, "cost": cost} else cost
    except Exception:  # none there, or a damaged one
        return cost


def _publish(job, staging, inputs):
    """Replace the stamp and the five outputs, all or none. No signal comes in between.

    The stamp comes first: one that was killed here left files that do not go with it, and so are not up to date.
    """
    (staging / "executed").mkdir()
    (staging / "executed.ipynb").rename(staging / jobs.OUTPUTS[4].format(job.stem))
    sources = {job.output / name.format(job.stem): staging / name.format(job.stem) for name in jobs.OUTPUTS}
    signal.pthread_sigmask(signal.SIG_BLOCK, jobs.SIGNALS)
    try:
        if job.stamp:
            digests = {jobs.short(path): jobs.digest(source) for path, source in sources.items()}
            (staging / "stamp.json").write_text(json.dumps(inputs | {"outputs": digests}, indent=1))
            sources = {job.stamp: staging / "stamp.json"} | sources
        files.replace_all(sources)
    except OSError as error:
        raise Problem(1, f"cannot publish in {jobs.short(job.output)}: {error}") from None
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, jobs.SIGNALS)


# --- the command line ------------------------------------------------------------------------------------------


def _known(job, record):
    """The verdicts of tests/reference, {id: verdict}, where it was made with the same parameters; else {}."""
    try:
        reference = files.parsed(jobs.ROOT / "tests" / "reference" / job.profile / f"{job.stem}.json")
        return {c["id"]: c["verdict"] for c in reference["claims"] if reference["parameters"] == record["parameters"]}
    except Exception:  # none, or a damaged one
        return {}


def _report(job, record):
    known = _known(job, record)
    ended = {}
    for claim in record["claims"]:
        verdict, before = claim["verdict"], known.get(claim["id"])
        if verdict == "not observed" and before:
            verdict += ", as expected at this size" if before == verdict else f", was {before} in the reference"
        ended.setdefault(verdict, []).append(claim["id"])
    parts = [f"{len(ids)} {v}" + f" ({', '.join(ids)})" * v.startswith("not") for v, ids in sorted(ended.items())]
    claims = ", ".join(parts) or "none"
    seconds, peak = (float(f"{record['cost'][name]:.2g}") for name in ("seconds", "peak_gib"))
    cost = f"done in {seconds:g} s, peak {peak:g} GiB"
    if (where := record.get("environment", {})).get("backend") == "cupy":
        cost += f" on {where['device']} (CuPy)"
    return f"{job.stem}: {cost} -> {jobs.short(job.output)}/{job.stem}.pdf; claims: {claims}"


@jobs.command
def main(arguments=None):
    """The command line; returns the exit status."""
    parser = jobs.parser("wnlib.collection.run", __doc__)
    add = parser.add_argument
    add("stems", nargs="*", metavar="STEM", help="notebooks to run, as NN_slug (default: all)")
    add("--backend", choices=BACKENDS, help="the parameter 'backend' (default: the notebook's)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="override a parameter, into build/custom")
    add("--output", metavar="DIR", help="publish there instead, without a stamp")
    add("--stale", action="store_true", help="only list the notebooks that are not up to date")
    add("--why", action="store_true", help="only say of each notebook what makes it stale")
    add("--force", action="store_true", help="run even what is up to date")
    add("--cell-timeout", type=int, default=1800, metavar="S", help="limit for one cell (default: 1800 s)")
    add("--timeout", type=float, default=3600, metavar="S", help="limit for one notebook (default: 3600 s)")
    asked = parser.parse_args(arguments)

    jobs.heed_signals()
    names = asked.stems or jobs.stems(asked.profile)
    always = asked.force or asked.set or asked.output
    if not (0 < asked.cell_timeout < 1e8 and 0 < asked.timeout < 1e8):
        raise Problem(2, f"--cell-timeout {asked.cell_timeout}, --timeout {asked.timeout:g}: give seconds > 0")
    # Before any work, and so in --stale too, from which make goes on: what is asked must suit every notebook.
    wanted = [jobs.request(s, asked.profile, asked.backend, asked.set, asked.output) for s in names]
    for job in wanted:
        reasons = jobs.why(job.stem, job.profile, job.backend) if asked.why or not always else ["asked for"]
        if asked.why:
            print(f"{job.stem}: {', '.join(reasons) or 'up to date'}")
        elif asked.stale:
            print(*[job.stem] * bool(reasons), end="\n" * bool(reasons))
        elif reasons:
            print(_report(job, run(job, asked.cell_timeout, asked.timeout)), flush=True)
        else:
            print(f"{job.stem}: up to date")


if __name__ == "__main__":
    sys.exit(main())
