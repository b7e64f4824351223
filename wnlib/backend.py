"""Which array library computes. Chosen once, where a problem is built; afterwards every array names its own.

Functions of wnlib begin with `xp = array_namespace(X)` and stay inside the array API standard, so the same
line runs on NumPy, on CuPy, and on array-api-strict (which stands in for CuPy in the tests).
"""

import importlib
import os
import pathlib
import platform
from contextlib import suppress

import array_api_compat
import array_api_compat.numpy
import numpy as np
import psutil

from wnlib import validate

BACKENDS = ("auto", "numpy", "cupy")


def namespace(name="auto"):
    """Return the array namespace for `name`: "numpy", "cupy", or "auto" (CuPy when a device is present).

    Raises ValueError for an unknown name, RuntimeError when CuPy is asked for but cannot compute here.
    """
    validate.choice("backend", name, BACKENDS)
    if name == "numpy":
        return array_api_compat.numpy
    try:
        xp = importlib.import_module("array_api_compat.cupy")
        xp.zeros(1)  # importing alone succeeds on machines without a device
        return xp
    except Exception as error:
        if name == "auto":
            return array_api_compat.numpy
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RuntimeError(
            f"backend = 'cupy': CuPy cannot compute here ({reason}); install the extra cuda12 or cuda13 on a "
            "machine with an NVIDIA GPU, or use backend = 'numpy'"
        ) from None


def array_namespace(X):
    """Return the namespace of the array X: array_api_compat's, looked up once for each array type.

    The look-up itself costs as much as the small products it precedes.
    """
    kind = type(X)
    if kind not in _NAMESPACES:
        _NAMESPACES[kind] = array_api_compat.array_namespace(X)
    return _NAMESPACES[kind]


_NAMESPACES = {}


def common_namespace(arrays):
    """Return the namespace of all `arrays` (name → array); raises TypeError where two live in different places."""
    spaces = {what: array_namespace(x) for what, x in arrays.items()}
    (first, xp), *rest = spaces.items()
    for what, other in rest:
        if other is not xp:
            raise TypeError(
                f"{first} is an array of {name(xp)} and {what} of {name(other)}: must be of one backend; "
                "make both with the same xp, see backend.namespace"
            )
    return xp


def name(xp):
    """Return the short name of a namespace or of an array's namespace: "numpy", "cupy", …"""
    module = xp if hasattr(xp, "__name__") else array_namespace(xp)
    return module.__name__.removeprefix("array_api_compat.").split(".")[0]


def drawn(rng, xp, draw):
    """Return draw(generator) as an array of `xp`, for a list of generators one beside the other."""
    return xp.asarray(np.stack([draw(g) for g in rng]) if isinstance(rng, list) else draw(rng))


def to_numpy(x):
    """Return the array `x` as a NumPy array, copied from the device where it lives on one."""
    if array_api_compat.is_cupy_array(x):
        return x.get()
    return array_api_compat.numpy.asarray(x)


def available_memory(xp):
    """Return the bytes that can still be allocated: on the device for CuPy, else in this machine or container."""
    if name(xp) == "cupy":
        return xp.cuda.runtime.memGetInfo()[0]
    free = psutil.virtual_memory().available
    for folder, limit, used in _memory_groups():
        with suppress(OSError, ValueError):  # not there, or "max"
            allowed, taken = (int((folder / name).read_text()) for name in (limit, used))
            free = min(free, max(allowed - taken + _cached(folder), 0))
    return free


def _cached(folder):
    """The bytes of a control group's use that are files read before, which it gives back when they are needed."""
    with suppress(OSError, ValueError, KeyError):
        counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return int(counts.get("total_inactive_file") or counts["inactive_file"])
    return 0


def _memory_groups(root=pathlib.Path("/sys/fs/cgroup"), own=pathlib.Path("/proc/self/cgroup")):
    """(folder, its limit's file, its use's file) of this process's control groups and all that they lie in, v1 and v2.

    A container may see its group as the root, whatever the path that the process is told.
    """
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            v1 = "memory" in controllers.split(",")
            top = root / "memory" if v1 else root
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if v1 else ("memory.max", "memory.current")
            if v1 or not controllers:
                group = top / path.lstrip("/")
                yield from ((folder, *names) for folder in (group, *group.parents) if folder.is_relative_to(top))


def require_memory(nbytes, what, instead, xp):
    """Raise MemoryError, in one line, when `nbytes` for `what` are not available.

    `instead`, a function of the bytes that are free, says what would fit.
    """
    free = available_memory(xp)
    if nbytes > free:
        raise MemoryError(f"{what} needs {gib(nbytes)} and {gib(free)} are free: {instead(free)}")


def gib(nbytes):
    """Return a number of bytes as text, in GiB."""
    return f"{nbytes / 2**30:.3g} GiB" if nbytes < 2**100 else "over 2**70 GiB"


def processors():
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def device(xp):
    """Return the name of the processor, or of the GPU for CuPy, as the system gives it."""
    if name(xp) == "cupy":
        return xp.cuda.runtime.getDeviceProperties(xp.cuda.runtime.getDevice())["name"].decode()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
