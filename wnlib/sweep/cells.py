"""The cells of a sweep: what one is, the address of its result, and the file there.

A cell is a function and parameters that JSON can hold. Its result is one file, replaced in one step, in build/sweeps or
the folder that WNLIB_SWEEPS names. The file's name is the digest of the parameters and of all the source that the
result depends on: what was computed is found again, by a notebook too, and nothing is lost with the process that asked
for it.
"""

import fcntl
import functools
import importlib
import json
import os
import stat
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import NamedTuple

from wnlib.collection import depends, files, jobs
from wnlib.collection.depends import digest
from wnlib.collection.jobs import Problem

# Beside the source: what else may change the last bits of a result.
PACKAGES = ("array-api-compat", "numpy", "scipy")


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
        return digest([self.name, self.parameters, source(self.function.__module__)])


class Foreign(Exception):
    """A worker whose wnlib or packages are not the caller's: its results would be filed under a wrong address."""


@functools.cache
def source(module):
    """Return the digest of `module` and of all that it imports from its own package, and of PACKAGES' versions."""
    code = depends.modules(module, package=module.partition(".")[0])
    return digest([code, {name: version(name) for name in PACKAGES}])


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


class Call:
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


def folder():
    """Where the finished cells are: WNLIB_SWEEPS, seen from the root, else build/sweeps."""
    return jobs.ROOT / (os.environ.get("WNLIB_SWEEPS") or "build/sweeps")


def load(address):
    """Return a finished cell's record, None when there is none; ValueError when its file is damaged."""
    path = folder() / f"{address}.json"
    try:
        record = files.parsed(path)
        if (record.pop("checksum"), record["address"]) == (digest(record), address):
            return record
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise
    except Exception:  # a damaged file can raise anything
        pass
    raise ValueError(f"{jobs.short(path)} is damaged")


def save(cell, address, text, seconds):
    """File a result in one step; return its record. Problem (1) when it cannot be written."""
    record = {"address": address, "function": cell.name, "parameters": cell.parameters, "work": cell.work}
    record |= {"seconds": float(f"{seconds:.3g}"), "result": json.loads(text)}
    path = folder() / f"{address}.json"
    try:
        files.write(path, json.dumps(record | {"checksum": digest(record)}))
    except OSError as error:
        raise Problem(1, f"cannot write {jobs.short(path)}: {error.strerror}; the cells before it are kept") from None
    return record


def _trusted(place):
    """Problem (2) for a folder in which strangers could put results: everybody's, or not ours nor our group's."""
    found = place.stat()
    team = found.st_mode & stat.S_IWGRP and found.st_gid in (os.getegid(), *os.getgroups())
    if found.st_mode & stat.S_IWOTH or not (os.geteuid() in (0, found.st_uid) or team):
        raise Problem(2, f"{jobs.short(place)}: others could put results there; chmod o-w it, or set WNLIB_SWEEPS")


@contextmanager
def locks():
    """Yield claim(address) and release(address): a lock on one byte for each cell, which dies with this process."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        _trusted(folder())
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        lock = os.fdopen(os.open(folder() / "lock", flags, 0o666), "wb")
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
