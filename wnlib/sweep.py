"""Sweeps: lists of independent cells, each computed once, by processes here or by workers elsewhere.

    python -m wnlib.sweep run|status|collect STEM [--profile paper|quick|extended] [--set NAME=VALUE ...] [--shard I/N]

A cell is a function and parameters that JSON can hold. Its result is one file, replaced in one step, whose name is the
digest of the parameters and of all the source that the result depends on: what was computed is found again, by a
notebook too, and nothing is lost with the process that asked for it. Processes compute by default; with the
environment variable SCHEDULER=tcp://host:port, the Dask workers there do (extra `cluster`). Any number of sweeps may
share the folder, build/sweeps or what WNLIB_SWEEPS names: a cell that one of them computes, the others wait for.

Exit status: 0 done; 1 cells failed, are missing or cannot be written; 2 the request was refused; 128 + n stopped by
signal n. Problems take one line each on stderr.
"""

import argparse
import ast
import fcntl
import functools
import hashlib
import importlib
import inspect
import json
import os
import pickle
import queue
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import ExitStack, closing, contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from wnlib import executors, jobs, progress, validate
from wnlib.jobs import Problem

# The notebooks that draw a sweep, and the modules whose `cells` lists it, given the parameters in its signature.
SWEEPS = {"11_sample_complexity": "wnlib.recovery"}
# Beside the source: what else may change the last bits of a result.
PACKAGES = ("array-api-compat", "numba", "numpy", "scipy")
# A cell that was lost with its worker so often, all but the first time alone, is to blame.
LOST = 3
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Cell(NamedTuple):
    """One independent computation, function(**parameters); `work` is its cost relative to the other cells'."""

    function: Callable
    parameters: dict
    work: float = 1.0

    @property
    def name(self):
        """Where the function is imported from: "module.function"."""
        return f"{self.function.__module__}.{self.function.__qualname__}"

    @property
    def address(self):
        """The digest of all that the result depends on."""
        return _digest([self.name, self.parameters, source(self.function.__module__)])


class Foreign(Exception):
    """A worker whose wnlib or packages are not the caller's: its results would be filed under a wrong address."""


def _digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@functools.cache
def source(module):
    """Return the digest of `module` and of all that it imports from its own package, and of PACKAGES' versions.

    Comments, docstrings and formatting do not count, nor do modules that it never imports.
    """
    package = module.partition(".")[0]
    trees, found = {}, [package, module]
    while found:
        name = found.pop()
        spec = find_spec(name) if name.partition(".")[0] == package and name not in trees else None
        if spec is None:
            continue  # another package's, known already, or no module but a name in one
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                found += [node.module, *(f"{package}.{alias.name}" for alias in node.names if node.module == package)]
            elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
                del node.body[0]
        trees[name] = ast.dump(tree)
    return _digest([trees, {name: version(name) for name in PACKAGES}])


def compute(module, name, parameters, expected):
    """Compute a cell on a worker; return the result as JSON text and the processor seconds it took.

    Raises Foreign when the worker's source is not the `expected` one.
    """
    if source(module) != expected:
        raise Foreign(f"on {os.uname().nodename}, {module} or {', '.join(PACKAGES)} differ from the caller's")
    _one_thread()
    start = time.process_time()
    result = getattr(importlib.import_module(module), name)(**parameters)
    return json.dumps(result), time.process_time() - start


class _Call:
    """A cell on its way: unpickling it computes it. A Dask scheduler, which need not have wnlib, sees only bytes."""

    def __init__(self, cell):
        module, _, name = cell.name.rpartition(".")
        self.arguments = module, name, cell.parameters, source(module)

    def __reduce__(self):
        return compute, self.arguments


@functools.cache
def _one_thread():
    """Cells are computed side by side; one BLAS thread each also makes the numbers independent of their number."""
    import threadpoolctl

    threadpoolctl.threadpool_limits(1)


# --- the files -------------------------------------------------------------------------------------------------


def folder():
    """Where the finished cells are: WNLIB_SWEEPS, else build/sweeps."""
    return Path(os.environ.get("WNLIB_SWEEPS") or jobs.BUILD / "sweeps")


def load(address):
    """Return a finished cell's record, None when there is none; ValueError when its file is damaged."""
    path = folder() / f"{address}.json"
    try:
        record = json.loads(path.read_bytes())
        checksum = record.pop("checksum")
        if (checksum, record["address"]) == (_digest(record), address):
            return record
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{jobs.short(path)} is damaged")


def _save(cell, address, text, seconds):
    """File a result in one step; return its record. Problem (1) when it cannot be written."""
    record = {"address": address, "function": cell.name, "parameters": cell.parameters, "work": cell.work}
    record |= {"seconds": float(f"{seconds:.3g}"), "result": json.loads(text)}
    part, path = folder() / f"{address}.part", folder() / f"{address}.json"
    try:
        part.write_text(json.dumps(record | {"checksum": _digest(record)}), encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise Problem(1, f"cannot write {jobs.short(path)}: {error.strerror}; the cells before it are kept") from None
    return record


@contextmanager
def _claims():
    """Yield claim(address) and release(address): a lock on one byte for each cell, which dies with this process."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        lock = (folder() / "lock").open("a")
    except OSError as error:
        raise Problem(2, f"cannot write {jobs.short(folder())}: {error.strerror}; set WNLIB_SWEEPS") from None

    def claim(address):
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, int(address[:15], 16))
        except BlockingIOError:
            return False
        except OSError:
            pass  # a file system without locks: then a cell may be computed twice, to the same file
        return True

    def release(address):
        with suppress(OSError):
            fcntl.lockf(lock, fcntl.LOCK_UN, 1, int(address[:15], 16))

    with lock:
        yield claim, release


# --- a sweep ---------------------------------------------------------------------------------------------------


def run(cells, processes=2, label="", report=lambda line: None):
    """Return the results of `cells` in their order: those found in the folder, and the rest computed now.

    `cells` holds (function, parameters) or (function, parameters, work): an importable function, and parameters that
    JSON can hold, as it can the result. `processes` = 0 computes in this process; SCHEDULER asks Dask instead.
    `report` is called with a line about each damaged file, lost worker and failed cell. Results are filed as they
    come, the most expensive cells first. Raises TypeError for what is no cell; Problem (1), after all other cells are
    done, when cells fail or keep killing their workers, or at once when nothing more can be computed or filed;
    Problem (2) when the folder or the scheduler cannot be used.
    """
    validate.integer("processes", processes, 0)
    order = [_checked(cell) for cell in cells]
    cells = {cell.address: cell for cell in sorted(order, key=lambda cell: -cell.work)}
    records = {address: _found(address, report) for address in cells}
    waiting = deque(address for address, record in records.items() if record is None)
    if waiting:
        mean = sum(cell.work for cell in cells.values()) / len(cells)
        with (
            progress.bar(len(cells), label, "cell") as bar,
            closing(_computed(cells, waiting, processes, report)) as new,
        ):
            bar.update(sum(cells[address].work for address, record in records.items() if record) / mean)
            for address, record in new:
                records[address] = record
                bar.update(cells[address].work / mean)
    if failed := [cells[address] for address, record in records.items() if record is None]:
        raise Problem(
            1, f"{len(failed)} of {len(cells)} cells failed, the first {_shown(failed[0])}; the rest are kept"
        )
    return [records[cell.address]["result"] for cell in order]


def _found(address, report=lambda line: None):
    try:
        return load(address)
    except ValueError as damage:
        report(f"{damage}: computing it again")


def _shown(cell):
    return f"{cell.name}({', '.join(f'{name}={value!r}' for name, value in cell.parameters.items())})"


def _computed(cells, waiting, processes, report):
    """Yield (address, record) of each cell as it is done, here or by another sweep; record None when it failed.

    When a worker is lost, so may be all cells that were under way, and any of them may have killed it: those are
    suspects, and are computed one at a time until each is done or proved guilty.
    """
    suspects, lost, running, done, broken = deque(), Counter(), {}, queue.SimpleQueue(), False
    with _claims() as (claim, release), ExitStack() as pool:
        executor, capacity = pool.enter_context(executors.start(processes, report))
        while waiting or suspects or running:
            if broken and not running:
                pool.close()
                (executor, capacity), broken = pool.enter_context(executors.start(processes, report)), False
            limit = 0 if broken else 1 if suspects else capacity()
            line = suspects or waiting
            for address in list(line):
                if len(running) >= limit:
                    break
                line.popleft()
                if not claim(address):  # another sweep computes it: look again later
                    line.append(address)
                elif record := _found(address):
                    release(address)
                    yield address, record
                else:
                    try:
                        future = executor.submit(pickle.loads, pickle.dumps(_Call(cells[address])))
                    except BrokenExecutor:  # a worker died idle
                        release(address)
                        line.appendleft(address)
                        broken = True
                        break
                    running[future] = address
                    future.add_done_callback(done.put)
            try:
                future = done.get(timeout=0.2)
            except queue.Empty:
                continue
            address = running.pop(future)
            try:
                yield address, _save(cells[address], address, *future.result())
            except Problem:
                raise
            except CancelledError:
                raise Problem(1, f"SCHEDULER={os.environ.get('SCHEDULER')}: lost; the cells before are kept") from None
            except (Foreign, ModuleNotFoundError) as error:
                raise Problem(
                    1, f"a worker cannot compute this sweep: {error}; give it this wnlib, unchanged"
                ) from None
            except Exception as error:
                killed = isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"
                broken |= isinstance(error, BrokenExecutor)
                lost[address] += killed
                if killed and lost[address] < LOST:
                    suspects.append(address)
                else:
                    reason = f"lost its worker {LOST} times; out of memory?" if killed else f"{error!r:.300}"
                    report(f"{_shown(cells[address])}: {reason}")
                    yield address, None
            finally:
                release(address)


def _checked(cell):
    cell = Cell(*cell)
    function = cell.function
    if not callable(function) or "<" in cell.name or function.__module__ == "__main__":
        raise TypeError(f"cell {validate.shown(function)}: must be a function that a worker can import")
    try:
        json.dumps(cell.parameters)
    except (TypeError, ValueError) as error:
        raise TypeError(f"parameters of {cell.name}: must be what JSON can hold; {error}") from None
    return cell


# --- the command line ------------------------------------------------------------------------------------------


def cells_of(stem, profile="paper", settings=()):
    """Return the list of Cells that a notebook draws; Problem (2) for anything wrong in the request."""
    if stem not in SWEEPS:
        raise Problem(2, f"{stem}: draws no sweep; these do: {', '.join(SWEEPS)}")
    parameters = jobs.request(stem, profile, None, settings).parameters
    function = importlib.import_module(SWEEPS[stem]).cells
    try:
        return [
            _checked(cell) for cell in function(**{p: parameters[p] for p in inspect.signature(function).parameters})
        ]
    except (ValueError, TypeError, MemoryError) as error:
        raise Problem(2, f"{stem}: {error}") from None


def _shard(text):
    """I/N as (I, N)."""
    try:
        i, n = map(int, text.split("/"))
    except ValueError:
        i, n = 0, 0
    if not 1 <= i <= n:
        raise Problem(2, f"--shard {text}: must be I/N with 1 <= I <= N")
    return i, n


def status(name, cells):
    """Return one line: how many cells are finished, and what the rest will cost, from the cells done.

    Without one of its own, a sweep is judged by the finished cells of the same functions in other sweeps.
    """
    damages, records = [], {}
    for cell in cells:
        records[cell.address] = _found(cell.address, damages.append)
    done = [record for record in records.values() if record]
    line = f"{name}: {len(done)} of {len(records)} cells finished" + (f", {len(damages)} damaged" if damages else "")
    if len(done) == len(records):
        return line
    names = {cell.name for cell in cells}
    known = done or [
        record for record in map(_readable, folder().glob("*.json")) if record and record["function"] in names
    ]
    left = sum({cell.address: cell.work for cell in cells if not records[cell.address]}.values())
    work = sum(record["work"] for record in known)
    if not work:
        return f"{line}; compute some of them (--shard) for an estimate of the rest"
    hours = left * sum(record["seconds"] for record in known) / work / 3600
    return f"{line}; the rest will take about {hours:.2g} core hours, judged by {len(known)} finished cells"


def _readable(path):
    with suppress(ValueError):
        return load(path.stem)


def _stop(number, frame):
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Problem(128 + number, f"stopped by {signal.Signals(number).name}; the finished cells are kept")


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m wnlib.sweep", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("command", choices=("run", "status", "collect"), help="collect: the results, one JSON line a cell, on stdout")
    add("stem", metavar="STEM", help=f"the notebook that draws the sweep: {', '.join(SWEEPS)}")
    add("--profile", default="paper", choices=jobs.PROFILES, help="whose parameters (default: paper)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="override a parameter")
    add("--shard", default="1/1", metavar="I/N", help="only the I-th of N shares, I from 1")
    add("--processes", type=int, default=_cores(), metavar="K", help="at a time (default: the cores there are)")
    parser.error = lambda line: parser.exit(2, f"{line}\n")
    asked = parser.parse_args(arguments)
    for number in SIGNALS:
        if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN):  # nohup means it
            signal.signal(number, _stop)
    say = functools.partial(print, file=sys.stderr, flush=True)
    try:
        if asked.processes < 1:
            raise Problem(2, f"--processes {asked.processes}: must be >= 1")
        i, n = _shard(asked.shard)
        cells = cells_of(asked.stem, asked.profile, asked.set)[i - 1 :: n]
        name = f"{asked.stem}, profile {asked.profile}" + (f", shard {i}/{n}" if n > 1 else "")
        if asked.command == "run":
            run(cells, asked.processes, asked.stem, say)
        if asked.command != "collect":
            print(status(name, cells))
            return 0
        records = [_found(cell.address) for cell in cells]
        if missing := records.count(None):
            raise Problem(1, f"{name}: {missing} of {len(cells)} cells are not finished; compute them with run")
        for record in records:
            print(json.dumps({key: record[key] for key in ("function", "parameters", "result")}, sort_keys=True))
        return 0
    except (Problem, OSError) as problem:
        say("\r\033[K" * sys.stderr.isatty() + str(problem))
        return getattr(problem, "status", 1)


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


if __name__ == "__main__":
    from wnlib import sweep  # what workers are sent must have an address, and __main__ is none

    sys.exit(sweep.main())
