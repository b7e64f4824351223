"""Computes lists of independent cells, each once: by processes here, or by Dask workers elsewhere."""

import json
import os
import pickle
import queue
from collections import Counter, deque
from concurrent.futures import BrokenExecutor, CancelledError
from contextlib import ExitStack, closing

from wnlib import progress, validate
from wnlib.collection import jobs
from wnlib.collection.jobs import Problem
from wnlib.sweep import executors
from wnlib.sweep.cells import Call, Cell, Foreign, load, locks, save

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
    order = [checked(cell) for cell in cells]
    cells = {cell.address: cell for cell in sorted(order, key=lambda cell: -cell.work)}
    records = {address: found(address, report) for address in cells}
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


def found(address, report=lambda line: None):
    """Return a finished cell's record, None where there is none or a damaged one, which is reported."""
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
                elif record := found(address):
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


def checked(cell):
    """Return (function, parameters) or (function, parameters, work) as a Cell; TypeError for what cannot be one."""
    cell = Cell(*cell)
    function = cell.function
    if not callable(function) or "<" in cell.name or function.__module__ == "__main__":
        raise TypeError(f"cell {validate.shown(function)}: must be a function that a worker can import")
    try:
        json.dumps(cell.parameters)
    except (TypeError, ValueError) as error:
        raise TypeError(f"parameters of {cell.name}: must be what JSON can hold; {error}") from None
    return cell
