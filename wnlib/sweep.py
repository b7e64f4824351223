"""Sweeps: lists of independent cells, each computed once, by processes here or by workers elsewhere.

    python -m wnlib.sweep run|status|collect STEM [--profile paper|quick|extended] [--set NAME=VALUE ...] [--shard I/N]

Processes compute by default; with the environment variable SCHEDULER=tcp://host:port, the Dask workers there do (extra
`cluster`). Any number of sweeps may share the folder of the cells' files: a cell that one of them computes, the others
wait for.

Exit status: 0 done; 1 cells failed, are missing or cannot be written; 2 the request was refused; 128 + n stopped by
signal n. Problems take one line each on stderr.
"""

import argparse
import functools
import importlib
import inspect
import json
import os
import pickle
import queue
import sys
from collections import Counter, deque
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import ExitStack, closing, suppress

from wnlib import backend, executors, jobs, progress, validate
from wnlib.cells import Call, Cell, Foreign, folder, load, locks, save
from wnlib.jobs import Problem

# The notebooks that draw a sweep, and the modules whose `cells` lists it, given the parameters in its signature.
SWEEPS = {"11_sample_complexity": "wnlib.recovery"}
# A cell that was lost with its worker so often, all but the first time alone, is to blame.
LOST = 3


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
    if len(waiting) < len(records):
        jobs.note_resumed()
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
    with locks() as (claim, release), ExitStack() as pool:
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
                        future = executor.submit(pickle.loads, pickle.dumps(Call(cells[address])))
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
                yield address, save(cells[address], address, *future.result())
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


def main(arguments=None):
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m wnlib.sweep", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("command", choices=("run", "status", "collect"), help="collect: the results, one JSON line a cell, on stdout")
    add("stem", metavar="STEM", help=f"the notebook that draws the sweep: {', '.join(SWEEPS)}")
    add("--profile", default="paper", choices=jobs.PROFILES, help="whose parameters (default: paper)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="override a parameter")
    add("--shard", default="1/1", metavar="I/N", help="only the I-th of N shares, I from 1")
    add("--processes", type=int, default=backend.processors(), metavar="K", help="at a time (default: all cores)")
    parser.error = lambda line: parser.exit(2, f"{line}\n")
    asked = parser.parse_args(arguments)
    jobs.heed_signals("; the finished cells are kept")
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


if __name__ == "__main__":
    sys.exit(main())
