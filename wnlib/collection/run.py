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
import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
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
    already or a folder cannot be written.
    """
    failed = jobs.BUILD / "failed" / f"{job.output.name}-{job.stem}.ipynb"
    # Socket addresses hold about 100 characters; a long temporary folder would not leave room.
    short = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"
    with _exclusive(job) as (lock, staging), tempfile.TemporaryDirectory(prefix="wnlib-", dir=short) as scratch:
        inputs = jobs.inputs_of(job.stem, job.profile, job.backend)  # now: they may be edited during the run
        try:
            cost = _supervise(job, lock, staging, scratch, cell_timeout, timeout)
            record = _complete(job, staging, cost)
            _publish(job, staging, inputs)
        except Problem as problem:
            line = f"{job.stem}: {problem}"
            if (staging / "partial.ipynb").exists():
                failed.parent.mkdir(exist_ok=True)
                shutil.copyfile(staging / "partial.ipynb", failed)
                line += f"; partial notebook: {jobs.short(failed)}"
            raise Problem(problem.status, line) from None
    failed.unlink(missing_ok=True)
    return record | {"cost": cost}


@contextmanager
def _exclusive(job):
    """Lock the job's outputs and yield (lock file, empty staging folder); check that we can publish.

    The child inherits the lock, so that it holds until the last process that could write is gone. Whatever
    lies in the staging folder of a lock that we got is left over from a run that was killed.
    """
    name = f"{job.stem}-{hashlib.sha256(bytes(job.output)).hexdigest()[:8]}"
    staging = jobs.BUILD / "running" / name
    try:
        staging.parent.mkdir(parents=True, exist_ok=True)
        (job.output / "executed").mkdir(parents=True, exist_ok=True)
        for folder in (job.output, job.output / "executed"):
            tempfile.TemporaryFile(dir=folder).close()
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
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            yield lock, staging
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _supervise(job, lock, staging, scratch, cell_timeout, timeout):
    """Run papermill in a child, so that whatever happens to it or to us ends it all; return the cost."""
    task = dict(job._asdict(), output=None, stamp=None, staging=str(staging), scratch=scratch, limit=cell_timeout)
    command = "import sys; from wnlib.collection import kernel; kernel.execute(sys.argv[1])"
    try:
        # The pipe to its stdin is the child's lifeline: it ends when we do, however we end.
        with (staging / "log.txt").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-c", command, json.dumps(task)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=jobs.NOTEBOOKS,
                env=_environment(staging, scratch),
                pass_fds=[lock.fileno()],
                start_new_session=True,  # a Ctrl-C is for us alone, and we see to the rest
            )
        child.wait(timeout)
    except subprocess.TimeoutExpired:
        raise Problem(
            1, f"{_cell(staging)}: the notebook ran past its limit of {timeout:g} s; raise it with --timeout"
        ) from None
    except Problem as stopped:
        raise Problem(stopped.status, f"{_cell(staging)}: {stopped}") from None
    finally:
        kernel.kill_marked(str(staging))
    try:
        outcome = json.loads((staging / "outcome.json").read_text())
    except (OSError, ValueError):
        log = (staging / "log.txt").read_text(errors="replace").strip().splitlines()
        outcome = {"error": f"papermill ended with status {child.returncode}: {log[-1] if log else 'no message'}"}
    if "error" in outcome:
        raise Problem(1, f"{_cell(staging)} {outcome['error']}")
    return outcome


def _environment(staging, scratch):
    """The kernel's environment: this tree's wnlib, this Python's kernel, none of the user's start-up files."""
    import importlib.util

    environment = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    matplotlib = Path(importlib.util.find_spec("matplotlib").origin).parent
    environment |= {
        "WNLIB_FIGURES": str(staging),  # also the mark by which the processes of this run are found
        "WNLIB_SWEEPS": os.environ.get("WNLIB_SWEEPS") or str(jobs.BUILD / "sweeps"),
        "PYTHONPATH": os.pathsep.join([str(jobs.ROOT), *filter(None, [environment.get("PYTHONPATH")])]),
        "PYTHONHASHSEED": "0",
        "MATPLOTLIBRC": str(matplotlib / "mpl-data" / "matplotlibrc"),
        "JUPYTER_PATH": f"{scratch}/jupyter",  # searched first; execute() puts this Python's kernel there
        "JUPYTER_DATA_DIR": f"{scratch}/jupyter",
        "JUPYTER_CONFIG_DIR": f"{scratch}/config",
        "IPYTHONDIR": f"{scratch}/ipython",
    }
    # At these sizes two BLAS threads gain little, and on a busy core they wait for each other: ten times slower. Use
    # the cores with make -j. One thread also makes the numbers independent of their number.
    for library in ("OPENBLAS", "MKL", "OMP"):
        environment.setdefault(f"{library}_NUM_THREADS", "1")
    # glibc would hand arrays of the size of a step's back to the system and fetch them again, page by page, at every
    # step: a quarter of the time of notebooks 01 and 07. Other systems do not read these.
    environment.setdefault("MALLOC_MMAP_THRESHOLD_", str(2**25))
    environment.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**28))
    if sys.stderr.isatty():
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
        raise Problem(1, f"the notebook saved no {', '.join(missing)}; wnlib.figures.save writes them")
    path = staging / f"{job.stem}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["claims"] = list(record["claims"])
        record |= {"notebook": job.stem, "profile": job.profile, "parameters": job.parameters}
        rounded = {name: float(f"{value:.2g}") for name, value in cost.items()}
        record["cost"] = _settled(job, record, rounded, (staging / jobs.RESUMED).exists())
        text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False)
    except (ValueError, KeyError, TypeError) as error:
        raise Problem(1, f"{path.name} is not a record with claims and finite numbers: {error!r}") from None
    path.write_text(text + "\n", encoding="utf-8")
    return record


def _settled(job, record, cost, resumed):
    """The published cost, where it is the better one.

    That is when nothing else changed and it still tells the truth: a rerun then gives no diff. And when this run found
    part of its work done: then its own cost is not that of the whole.
    """
    try:
        old = json.loads((job.output / f"{job.stem}.json").read_text(encoding="utf-8"))
        if resumed:
            return old["cost"]
        close = all(1 / 1.5 <= cost[name] / old["cost"][name] <= 1.5 for name in cost)
        return old["cost"] if close and {**old, "cost": cost} == {**record, "cost": cost} else cost
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return cost


def _publish(job, staging, inputs):
    """Replace the five outputs, each in one step, then stamp them. No signal comes in between."""
    (staging / "executed").mkdir()
    (staging / "executed.ipynb").rename(staging / jobs.OUTPUTS[4].format(job.stem))
    names = [name.format(job.stem) for name in jobs.OUTPUTS]
    signal.pthread_sigmask(signal.SIG_BLOCK, jobs.SIGNALS)
    try:
        with ExitStack() as stack:  # all are prepared in the destination's file system before the first is replaced
            if job.stamp:
                job.stamp.unlink(missing_ok=True)
            for name in names:
                shutil.copyfile(staging / name, stack.enter_context(files.replacing(job.output / name)))
        if job.stamp:
            files.write(job.stamp, json.dumps(inputs | jobs.outputs_of(job.stem, job.profile), indent=1))
    except OSError as error:
        raise Problem(1, f"cannot publish in {jobs.short(job.output)}: {error}") from None
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, jobs.SIGNALS)


# --- the command line ------------------------------------------------------------------------------------------


def _known(job, record):
    """The verdicts of tests/reference, {id: verdict}, where it was made with the same parameters; else {}."""
    path = jobs.ROOT / "tests" / "reference" / job.profile / f"{job.stem}.json"
    try:
        reference = json.loads(path.read_text(encoding="utf-8"))
        return {c["id"]: c["verdict"] for c in reference["claims"] if reference["parameters"] == record["parameters"]}
    except (OSError, ValueError, KeyError, TypeError):
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
    where = record.get("environment", {})
    cost += f" on {where['device']} (CuPy)" if where.get("backend") == "cupy" else ""
    return f"{job.stem}: {cost} -> {jobs.short(job.output)}/{job.stem}.pdf; claims: {claims}"


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m wnlib.collection.run", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("stems", nargs="*", metavar="STEM", help="notebooks to run, as NN_slug (default: all)")
    add("--profile", default="paper", choices=jobs.PROFILES, help="whose parameters, and where to (default: paper)")
    add("--backend", choices=BACKENDS, help="the parameter 'backend' (default: the notebook's)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="override a parameter, into build/custom")
    add("--output", metavar="DIR", help="publish there instead, without a stamp")
    add("--stale", action="store_true", help="only list the notebooks that are not up to date")
    add("--why", action="store_true", help="only say of each notebook what makes it stale")
    add("--force", action="store_true", help="run even what is up to date")
    add("--cell-timeout", type=int, default=1800, metavar="S", help="limit for one cell (default: 1800 s)")
    add("--timeout", type=float, default=3600, metavar="S", help="limit for one notebook (default: 3600 s)")
    parser.error = lambda line: parser.exit(2, f"{line}\n")
    asked = parser.parse_args(arguments)
    names = asked.stems or jobs.stems(asked.profile)
    always = asked.force or asked.set or asked.output
    jobs.heed_signals()
    try:
        if min(asked.cell_timeout, asked.timeout) <= 0:
            raise Problem(2, f"--cell-timeout {asked.cell_timeout}, --timeout {asked.timeout:g}: give seconds > 0")
        # Before any work, and so in --stale too, from which make goes on: what is asked must suit every notebook.
        wanted = [jobs.request(s, asked.profile, asked.backend, asked.set, asked.output) for s in names if always]
        if asked.why:
            for stem in names:
                jobs.request(stem, asked.profile, asked.backend)
                print(f"{stem}: {', '.join(jobs.why(stem, asked.profile, asked.backend)) or 'up to date'}")
            return 0
        if asked.stale:
            for stem in names:
                if always or jobs.why(stem, asked.profile, asked.backend):
                    print(stem)
            return 0
        for job in wanted or [jobs.request(s, asked.profile, asked.backend) for s in names]:
            if always or jobs.why(job.stem, job.profile, job.backend):
                print(f"{job.stem}: running", flush=True)
                print(_report(job, run(job, asked.cell_timeout, asked.timeout)), flush=True)
            else:
                print(f"{job.stem}: up to date")
        return 0
    except (Problem, OSError) as problem:
        # On a terminal, a progress bar may have been left on this line.
        print("\r\033[K" * sys.stderr.isatty() + str(problem), file=sys.stderr)
        return getattr(problem, "status", 1)


if __name__ == "__main__":
    sys.exit(main())
