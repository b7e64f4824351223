"""Run notebooks strictly: all the outputs of a run are published together, or none is.

    python -m wnlib.run [STEM ...] [--profile paper|quick] [--set NAME=VALUE ...] [--stale]

A run of ``NN_slug`` reads ``notebooks/NN_slug.ipynb`` and publishes ``NN_slug.{pdf,png,json,npz}`` and
``executed/NN_slug.ipynb`` in the profile's folder. The notebook saves the first four in the folder that the
environment variable WNLIB_FIGURES names; the runner adds the parameters and the cost to the json record and
cleans the executed notebook of everything that would differ in an unchanged rerun.

Exit status: 0 done or up to date; 1 a notebook failed; 2 the request was refused and nothing was started;
128 + n stopped by signal n. Problems take one line on stderr. Linux and macOS.
"""

# Only the standard library here, and little of it: `--stale` must answer in a blink.
import argparse
import ast
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build"
# profile: where it publishes, and the folder of its parameter files (None: the notebook's own values)
PROFILES = {"paper": (ROOT / "figures", None), "quick": (BUILD / "quick", NOTEBOOKS / "quick")}
BACKENDS = ("auto", "numpy", "cupy")
OUTPUTS = ("{}.pdf", "{}.png", "{}.json", "{}.npz", "executed/{}.ipynb")
KINDS = {"int": "an int", "float": "a finite float", "bool": "a bool", "str": "a str"}
KINDS |= {f"list[{kind}]": f"a list of {kind}" for kind in ("int", "float", "str")}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# What a user sets for their own sessions and would change a result, a figure or a kernel.
FOREIGN = ("JUPYTER_", "IPYTHON", "IPYKERNEL_", "MPLBACKEND", "WNLIB_")
FOREIGN += ("PYTHONSTARTUP", "PYTHONOPTIMIZE", "PYTHONWARNINGS")


class Problem(Exception):
    """A run without outputs: the exit status, and one line that says why."""

    def __init__(self, status, line):
        super().__init__(" ".join(str(line).split()))
        self.status = status


class Job(NamedTuple):
    """One checked request. ``stamp`` is None for a run that leaves no trace of being up to date."""

    stem: str
    profile: str
    backend: str | None
    parameters: dict  # final value of every parameter
    overrides: dict  # those that differ from the notebook's parameters cell by request
    output: Path
    stamp: Path | None


# --- requests: checked before anything starts -------------------------------------------------------------


def stems():
    """The names of all notebooks, in order."""
    return sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def parameters_of(stem):
    """Read the cell tagged ``parameters``: ``{name: (type name, value)}``.

    Problem (2) unless there is one such cell, made only of annotated literals of the types in KINDS.
    """
    path = NOTEBOOKS / f"{stem}.ipynb"
    if stem not in stems():
        raise Problem(2, f"no notebook {stem!r} in {_short(NOTEBOOKS)}; there are: {', '.join(stems()) or 'none'}")
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        [cell] = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        body = ast.parse("".join(cell["source"])).body
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise Problem(2, f"{_short(path)}: must have one cell of Python tagged 'parameters' ({error})") from None
    parameters = {}
    for node in body:
        where = f"{_short(path)}, parameters, line {node.lineno}"
        try:
            kind, value = ast.unparse(node.annotation), ast.literal_eval(node.value)
        except (AttributeError, ValueError):
            raise Problem(2, f"{where}: {ast.unparse(node)!r} must be 'name: type = literal'") from None
        parameters[node.target.id] = (kind, _typed(value, kind, where))
    return parameters


def _typed(value, kind, where):
    """``value`` as the parameter type ``kind``; Problem (2) when it is something else."""
    inner = kind.removeprefix("list[").removesuffix("]")
    if kind not in KINDS:
        raise Problem(2, f"{where}: unknown type {kind}; use one of {', '.join(KINDS)}")
    if kind != inner and isinstance(value, list):
        return [_typed(item, inner, where) for item in value]
    if kind == "float" and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if type(value).__name__ == kind != "float":  # exactly: a bool is no int
        return value
    hint = " (quote it)" if kind == "str" else ""
    if isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+e[-+]?\d+", value, re.IGNORECASE):
        hint = " (YAML reads it as text: write 1.0e-3, with a point, for 1e-3)"
    raise Problem(2, f"{where}: must be {KINDS[kind]}, not {value!r}{hint}")


def _yaml(text, where):
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Problem(2, f"{where}: not YAML: {error}") from None


def _asked(stem, profile, settings, backend):
    """The values asked for, ``{name: (value, where)}``: the profile's file, then --set, then --backend."""
    asked = {}
    if folder := PROFILES[profile][1]:
        path = folder / f"{stem}.yaml"
        if not path.is_file():
            raise Problem(2, f"{_short(path)}: missing; profile {profile} needs it (it may be empty)")
        values = _yaml(path.read_text(encoding="utf-8"), _short(path)) or {}
        if not isinstance(values, dict):
            raise Problem(2, f"{_short(path)}: must map parameters to values, not be {values!r}")
        asked = {name: (value, _short(path)) for name, value in values.items()}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise Problem(2, f"--set {setting}: must be NAME=VALUE, lists without spaces: kappas=[10,20]")
        asked[name] = (_yaml(text, f"--set {setting}"), "--set")
    return asked | ({"backend": (backend, "--backend")} if backend else {})


def request(stem, profile="paper", backend=None, settings=(), output=None):
    """Check one request completely and return its Job; Problem (2) for anything wrong in it.

    A run with settings goes to ``build/custom`` unless ``output`` says otherwise; neither kind is stamped.
    """
    known = parameters_of(stem)
    overrides = {}
    for name, (value, where) in _asked(stem, profile, settings, backend).items():
        if name not in known:
            import difflib

            near = difflib.get_close_matches(str(name), known, 1)
            hint = f" did you mean {near[0]!r}?" if near else ""
            raise Problem(2, f"{where}: {stem} has no parameter {name!r};{hint} it has: {', '.join(known)}")
        overrides[name] = _typed(value, known[name][0], f"{where}: {name} of {stem}")
    return Job(
        stem,
        profile,
        backend,
        {name: value for name, (_, value) in known.items()} | overrides,
        overrides,
        Path(output or (BUILD / "custom" if settings else PROFILES[profile][0])).resolve(),
        None if output or settings else _stamp(stem, profile),
    )


# --- up to date: by content, never by time ----------------------------------------------------------------


def _stamp(stem, profile):
    return BUILD / "stamps" / profile / f"{stem}.json"


def _digests(paths):
    """``{path from the root: digest, or None for a file that is not there}``."""
    return {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in paths
    }


def _inputs(stem, profile, backend):
    """All that a run depends on: its request, and the files it reads."""
    paths = [NOTEBOOKS / f"{stem}.ipynb", ROOT / "requirements.lock", *sorted((ROOT / "wnlib").glob("*.py"))]
    if PROFILES[profile][1]:
        paths.append(PROFILES[profile][1] / f"{stem}.yaml")
    return {"profile": profile, "backend": backend, "inputs": _digests(paths)}


def _outputs(stem, profile):
    return {"outputs": _digests(PROFILES[profile][0] / name.format(stem) for name in OUTPUTS)}


def is_stale(stem, profile="paper", backend=None):
    """Whether an input changed since the last published run, or an output is gone or was edited."""
    try:
        stamp = json.loads(_stamp(stem, profile).read_text())
    except (OSError, ValueError):
        return True
    outputs = _outputs(stem, profile)
    return None in outputs["outputs"].values() or stamp != _inputs(stem, profile, backend) | outputs


# --- one run ----------------------------------------------------------------------------------------------


def run(job, cell_timeout=1800, timeout=3600):
    """Execute a job's notebook and publish its five outputs; return the record.

    Problem (1) when the notebook fails, runs past a limit (seconds) or leaves an output out: then no published
    file has changed, and the partial notebook lies in ``build/failed``. Problem (2) when the job is running
    already or a folder cannot be written.
    """
    failed = BUILD / "failed" / f"{job.output.name}-{job.stem}.ipynb"
    # Socket addresses hold about 100 characters; a long temporary folder would not leave room.
    short = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"
    with _exclusive(job) as (lock, staging), tempfile.TemporaryDirectory(prefix="wnlib-", dir=short) as scratch:
        inputs = _inputs(job.stem, job.profile, job.backend)  # now: they may be edited during the run
        try:
            cost = _supervise(job, lock, staging, scratch, cell_timeout, timeout)
            record = _complete(job, staging, cost)
            _publish(job, staging, inputs)
        except Problem as problem:
            line = f"{job.stem}: {problem}"
            if (staging / "partial.ipynb").exists():
                failed.parent.mkdir(exist_ok=True)
                shutil.copyfile(staging / "partial.ipynb", failed)
                line += f"; partial notebook: {_short(failed)}"
            raise Problem(problem.status, line) from None
    failed.unlink(missing_ok=True)
    return record


@contextmanager
def _exclusive(job):
    """Lock the job's outputs and yield (lock file, empty staging folder); check that we can publish.

    The child inherits the lock, so that it holds until the last process that could write is gone. Whatever
    lies in the staging folder of a lock that we got is left over from a run that was killed.
    """
    name = f"{job.stem}-{hashlib.sha256(bytes(job.output)).hexdigest()[:8]}"
    staging = BUILD / "running" / name
    try:
        staging.parent.mkdir(parents=True, exist_ok=True)
        (job.output / "executed").mkdir(parents=True, exist_ok=True)
        for folder in (job.output, job.output / "executed"):
            tempfile.TemporaryFile(dir=folder).close()
        lock = staging.with_suffix(".lock").open("a+")
    except OSError as error:
        where = _short(Path(error.filename or job.output))
        raise Problem(2, f"{job.stem}: cannot write {where} ({error.strerror}); choose another --output") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            who = f"process {lock.read()} is already running it into {_short(job.output)}"
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
    command = "import sys, wnlib.run; wnlib.run.execute(sys.argv[1])"
    try:
        # The pipe to its stdin is the child's lifeline: it ends when we do, however we end.
        with (staging / "log.txt").open("wb") as log:
            child = subprocess.Popen(
                [sys.executable, "-c", command, json.dumps(task)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=NOTEBOOKS,
                env=_environment(staging, scratch),
                pass_fds=[lock.fileno()],
                start_new_session=True,  # a Ctrl-C is for us alone, and we see to the rest
            )
        child.wait(timeout)
    except subprocess.TimeoutExpired:
        raise Problem(1, f"{_cell(staging)}: the notebook ran past its limit of {timeout:g} s") from None
    except Problem as stopped:
        raise Problem(stopped.status, f"{_cell(staging)}: {stopped}") from None
    finally:
        _kill_marked(str(staging))
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
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]),
        "PYTHONHASHSEED": "0",
        "MATPLOTLIBRC": str(matplotlib / "mpl-data" / "matplotlibrc"),
        "JUPYTER_PATH": f"{scratch}/jupyter",  # searched first; execute() puts this Python's kernel there
        "JUPYTER_DATA_DIR": f"{scratch}/jupyter",
        "JUPYTER_CONFIG_DIR": f"{scratch}/config",
        "IPYTHONDIR": f"{scratch}/ipython",
    }
    if sys.stderr.isatty():
        environment["WNLIB_TERMINAL"] = os.ttyname(sys.stderr.fileno())
    return environment


def _kill_marked(mark):
    """Kill every process but this one whose environment carries the mark, orphans of a dead kernel included."""
    import psutil

    while True:
        marked = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("WNLIB_FIGURES") == mark and process.pid != os.getpid():
                    process.kill()
                    marked.append(process)
            except psutil.Error:
                continue
        if not marked:
            return
        psutil.wait_procs(marked, timeout=1)


def _cell(staging):
    """The cell that was running, numbered as in ``In [n]``."""
    try:
        return f"cell {(staging / 'cell').read_text()}"
    except OSError:
        return "before the first cell"


def _complete(job, staging, cost):
    """Check that the notebook saved its four files and add what the runner knows to the record."""
    saved = [name.format(job.stem) for name in OUTPUTS[:4]]
    if missing := [name for name in saved if not (staging / name).is_file()]:
        raise Problem(1, f"the notebook saved no {', '.join(missing)}; wnlib.figures.save writes them")
    path = staging / f"{job.stem}.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        record["claims"] = list(record["claims"])
        record |= {"notebook": job.stem, "profile": job.profile, "parameters": job.parameters}
        record["cost"] = _settled(job, record, {name: float(f"{value:.2g}") for name, value in cost.items()})
        text = json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False)
    except (ValueError, KeyError, TypeError) as error:
        raise Problem(1, f"{path.name} is not a record with claims and finite numbers: {error!r}") from None
    path.write_text(text + "\n", encoding="utf-8")
    return record


def _settled(job, record, cost):
    """The published cost, when nothing else changed and it still tells the truth: a rerun then gives no diff."""
    try:
        old = json.loads((job.output / f"{job.stem}.json").read_text(encoding="utf-8"))
        close = all(1 / 1.5 <= cost[name] / old["cost"][name] <= 1.5 for name in cost)
        return old["cost"] if close and {**old, "cost": cost} == {**record, "cost": cost} else cost
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return cost


def _publish(job, staging, inputs):
    """Replace the five outputs, each in one step, then stamp them. No signal comes in between."""
    (staging / "executed").mkdir()
    (staging / "executed.ipynb").rename(staging / OUTPUTS[4].format(job.stem))
    names = [name.format(job.stem) for name in OUTPUTS]
    parts = {name: (job.output / name).with_name(f".{Path(name).name}.part") for name in names}
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        for name, part in parts.items():  # in the destination's own file system, where replacing is one step
            shutil.copyfile(staging / name, part)
        if job.stamp:
            job.stamp.parent.mkdir(parents=True, exist_ok=True)
            job.stamp.unlink(missing_ok=True)
        for name, part in parts.items():
            os.replace(part, job.output / name)
        if job.stamp:
            part = job.stamp.with_suffix(".part")
            part.write_text(json.dumps(inputs | _outputs(job.stem, job.profile), indent=1))
            os.replace(part, job.stamp)
    except OSError as error:
        raise Problem(1, f"cannot publish in {_short(job.output)}: {error}") from None
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


# --- in the child -----------------------------------------------------------------------------------------


def execute(task):
    """The child's whole work: execute one notebook in the staging folder and leave ``outcome.json`` there.

    ``task`` is the JSON text of a Job with ``staging``, ``scratch`` and ``limit`` (seconds a cell may run).
    """
    import resource
    import threading

    task = json.loads(task)
    staging, managers, cells = Path(task["staging"]), [], []
    threading.Thread(target=_die_with_parent, args=(task["staging"], task["scratch"]), daemon=True).start()
    # jsonschema would compile a grammar of addresses on import, which takes longer than all the rest.
    sys.modules["rfc3987_syntax"] = None
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    def count(cell, cell_index):
        cells.append(cell)
        (staging / "cell").write_text(str(len(cells)))

    start = time.perf_counter()
    try:
        notebook = _papermill(task, managers, count)
        skipped = sum(cell.cell_type == "code" and cell.source.strip() != "" for cell in notebook.cells) - len(cells)
        if skipped:  # papermill takes sys.exit() for success
            raise RuntimeError(f"ended the notebook, {skipped} cells early")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        outcome = {"seconds": time.perf_counter() - start, "peak_gib": peak / 2**30}
        _write_executed(notebook, staging)
    except PapermillExecutionError as error:
        outcome = {"error": f"raised {error.ename}: {error.evalue}"[:300]}
    except CellTimeoutError:
        outcome = {"error": f"ran past its limit of {task['limit']} s"}
    except DeadKernelError:
        status = managers[-1].provisioner.process.returncode
        hint = "; out of memory?" if status == -signal.SIGKILL else ""
        ended = f"was killed (signal {-status}{hint})" if status < 0 else f"exited ({status})"
        outcome = {"error": f"lost its kernel, which {ended}"}
    except Exception as error:
        outcome = {"error": f"{type(error).__name__}: {error}"[:300]}
    (staging / "outcome.json").write_text(json.dumps(outcome))


def _papermill(task, managers, on_cell):
    """Execute the notebook, trying thrice to start its kernel; each start appends its manager."""
    import papermill
    from ipykernel.kernelspec import write_kernel_spec
    from jupyter_client.manager import AsyncKernelManager
    from traitlets.config import Config

    class Manager(AsyncKernelManager):  # papermill keeps it to itself; we must ask it what a kernel died of
        def __init__(self, **options):
            super().__init__(**options)
            managers.append(self)

    started, progress = [], False
    if "WNLIB_TERMINAL" in os.environ:
        terminal = os.fdopen(os.open(os.environ["WNLIB_TERMINAL"], os.O_WRONLY | os.O_NOCTTY), "w")
        progress = {"desc": task["stem"], "file": terminal, "leave": False}
    write_kernel_spec(f"{task['scratch']}/jupyter/kernels/python3")
    for attempt in range(3):
        # Parallel starts race for TCP ports; sockets in a folder of our own cannot be raced for.
        connection = {"transport": "ipc", "connection_file": f"{task['scratch']}/kernel{attempt}.json"}
        try:
            return papermill.execute_notebook(
                f"{task['stem']}.ipynb",
                f"{task['staging']}/partial.ipynb",
                task["overrides"],
                kernel_name="python3",
                language="python",
                progress_bar=progress,
                autosave_cell_every=2,
                execution_timeout=task["limit"],
                iopub_timeout=60,
                force_raise_errors=True,
                on_notebook_start=lambda notebook: started.append(notebook),
                on_cell_execute=on_cell,
                kernel_manager_class=Manager,
                config=Config(ConnectionFileMixin=connection),
            )
        except Exception:
            if started or attempt == 2:
                raise


def _die_with_parent(mark, scratch):
    """Wait for the lifeline to end; then take the kernel and everything else of this run along."""
    os.read(0, 1)
    shutil.rmtree(scratch, ignore_errors=True)  # first: once its kernel is gone, this process ends too
    _kill_marked(mark)
    os._exit(1)


def _write_executed(notebook, staging):
    """Write the executed notebook without anything that depends on the machine, the hour or chance."""
    import nbformat

    def clean(text):
        text = text.replace(str(staging), "figures").replace(str(ROOT), ".")
        return re.sub(r"\bat 0x[0-9a-f]{6,}", "at 0x...", text)

    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.tags:
            cell.id = "injected-parameters"
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.tags else {}
        merged = []
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop("application/vnd.jupyter.widget-view+json", None)
            data.update({mime: clean(text) for mime, text in data.items() if mime.startswith("text/")})
            last = merged[-1] if merged else {}
            if output.output_type == "stream" == last.get("output_type") and output.name == last["name"]:
                last["text"] += output.text  # where a stream is cut into messages is chance
            else:
                merged.append(output)
        if cell.cell_type == "code":
            cell.outputs = merged
            for output in merged:
                if output.output_type == "stream":
                    output.text = clean(output.text)
    nbformat.write(nbformat.from_dict(notebook), staging / "executed.ipynb")


# --- the command line -------------------------------------------------------------------------------------


def _short(path):
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def _report(job, record):
    verdicts = Counter(claim["verdict"] for claim in record["claims"])
    claims = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())) or "none"
    cost = f"done in {record['cost']['seconds']:g} s, peak {record['cost']['peak_gib']:g} GiB"
    return f"{job.stem}: {cost} -> {_short(job.output)}/{job.stem}.pdf; claims: {claims}"


def _stop(number, frame):
    for other in SIGNALS:  # one is enough; a second must not disturb the clearing up
        signal.signal(other, signal.SIG_IGN)
    raise Problem(128 + number, f"stopped by {signal.Signals(number).name}")


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m wnlib.run", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("stems", nargs="*", metavar="STEM", help="notebooks to run, as NN_slug (default: all)")
    add("--profile", default="paper", choices=PROFILES, help="whose parameters, and where to (default: paper)")
    add("--backend", choices=BACKENDS, help="the parameter 'backend' (default: the notebook's)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="override a parameter, into build/custom")
    add("--output", metavar="DIR", help="publish there instead, without a stamp")
    add("--stale", action="store_true", help="only list the notebooks that are not up to date")
    add("--force", action="store_true", help="run even what is up to date")
    add("--cell-timeout", type=int, default=1800, metavar="S", help="limit for one cell (default: 1800 s)")
    add("--timeout", type=float, default=3600, metavar="S", help="limit for one notebook (default: 3600 s)")
    parser.error = lambda line: parser.exit(2, f"{line}\n")
    asked = parser.parse_args(arguments)
    names = asked.stems or stems()
    always = asked.force or asked.set or asked.output
    for number in SIGNALS:
        if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN):  # nohup means it
            signal.signal(number, _stop)
    try:
        if min(asked.cell_timeout, asked.timeout) <= 0:
            raise Problem(2, f"--cell-timeout {asked.cell_timeout}, --timeout {asked.timeout:g}: give seconds > 0")
        if asked.stale:
            for stem in names:
                if always or is_stale(stem, asked.profile, asked.backend):
                    print(stem)
            return 0
        for job in [request(s, asked.profile, asked.backend, asked.set, asked.output) for s in names]:
            if always or is_stale(job.stem, job.profile, job.backend):
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
