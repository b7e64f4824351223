"""Sweeps: lists of independent cells, each computed once, by processes here or by workers elsewhere.

    python -m wnlib.sweep run|status|collect STEM [--profile paper|quick|extended] [--set NAME=VALUE ...] [--shard I/N]

Processes compute by default; with the environment variable SCHEDULER=tcp://host:port, the Dask workers there do (extra
`cluster`). Any number of sweeps may share the folder of the cells' files: a cell that one of them computes, the others
wait for.

Exit status: 0 done; 1 cells failed, are missing or cannot be written; 2 the request was refused; 128 + n stopped by
signal n. Problems take one line each on stderr.
"""

import functools
import importlib
import inspect
import json
import sys

from wnlib import backend
from wnlib.collection import jobs
from wnlib.collection.jobs import Problem
from wnlib.sweep.work import checked, found, run

# The notebooks that draw a sweep, and the modules whose `cells` lists it, given the parameters in its signature.
SWEEPS = {"13_sample_complexity": "wnlib.maps.complexity", "17_sample_frontier": "wnlib.maps.frontier"}


def cells_of(stem, profile="paper", settings=()):
    """Return the list of Cells that a notebook draws; Problem (2) for anything wrong in the request."""
    if stem not in SWEEPS:
        raise Problem(2, f"{stem}: draws no sweep; these do: {', '.join(SWEEPS)}")
    parameters = jobs.request(stem, profile, None, settings).parameters
    function = importlib.import_module(SWEEPS[stem]).cells
    try:
        return [
            checked(cell) for cell in function(**{p: parameters[p] for p in inspect.signature(function).parameters})
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
    """Return one line: how many cells are finished, and what the rest will cost, judged by these."""
    damages, records = [], {}
    for cell in cells:
        records[cell.address] = found(cell.address, damages.append)
    done = [record for record in records.values() if record]
    line = f"{name}: {len(done)} of {len(records)} cells finished" + (f", {len(damages)} damaged" if damages else "")
    if len(done) == len(records):
        return line
    left = sum({cell.address: cell.work for cell in cells if not records[cell.address]}.values())
    work = sum(record["work"] for record in done)
    if not work:
        return f"{line}; run one shard of many (--shard 1/500) for an estimate of the rest"
    hours = left * sum(record["seconds"] for record in done) / work / 3600
    by = f"{len(done)} finished cell" + "s" * (len(done) > 1)
    return f"{line}; the rest will take about {hours:.2g} core hours, judged by {by}"


@jobs.command
def main(arguments=None):
    """The command line; returns the exit status."""
    parser = jobs.parser("wnlib.sweep", __doc__)
    add = parser.add_argument
    add("command", choices=("run", "status", "collect"), help="collect: the results, one JSON line a cell, on stdout")
    add("stem", metavar="STEM", help=f"the notebook that draws the sweep: {', '.join(SWEEPS)}")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="override a parameter")
    add("--shard", default="1/1", metavar="I/N", help="only the I-th of N shares, I from 1")
    add("--processes", type=int, default=backend.processors(), metavar="K", help="at a time (default: all cores)")
    asked = parser.parse_args(arguments)

    jobs.heed_signals("; the finished cells are kept")
    if asked.processes < 1:
        raise Problem(2, f"--processes {asked.processes}: must be >= 1")
    i, n = _shard(asked.shard)
    cells = cells_of(asked.stem, asked.profile, asked.set)[i - 1 :: n]
    name = f"{asked.stem}, profile {asked.profile}" + (f", shard {i}/{n}" if n > 1 else "")
    if asked.command == "run":
        run(cells, asked.processes, asked.stem, functools.partial(print, file=sys.stderr, flush=True))
    if asked.command != "collect":
        return print(status(name, cells))
    records = [found(cell.address) for cell in cells]
    if missing := records.count(None):
        raise Problem(1, f"{name}: {missing} of {len(cells)} cells are not finished; compute them with run")
    for record in records:
        print(json.dumps({key: record[key] for key in ("function", "parameters", "result")}, sort_keys=True))


if __name__ == "__main__":
    sys.exit(main())
