"""Products RᵀRX with a big R in one pass: each entry is read from memory once, not twice.

R is a NumPy array too big for the caches, X a few columns. A few rows of R at a time: their inner products with X are
taken, and while the rows still lie in the cache they are added back with those weights. The loops over rows and columns
are written out (a few dozen scalars that the compiler keeps in registers), for each number of columns; Numba compiles
and vectorises them and keeps the result on disk. Rows are full (n×d) or those of a packed upper triangle.
"""

import functools
import hashlib
import importlib.util
import os
import pathlib
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from wnlib import backend

# More columns than this and the accumulators no longer fit the registers: they are taken in groups.
COLUMNS = 6
# The work is cut into as many parts whatever the number of threads, so that the sums are the same on every machine.
PARTS = 8
CHUNK = 1 << 22  # normals drawn from one stream


@functools.cache
def _pool():
    return ThreadPoolExecutor(backend.processors())


def triangle_size(d):
    """Return d(d+1)/2, the number of entries of a packed d×d triangle."""
    return d * (d + 1) // 2


def draw_normals(size, rng, dtype=np.float32, progress=None):
    """Return `size` independent N(0, 1) numbers drawn in parallel, the same for a generator on any number of threads.

    `progress`, if given, is called with the count of each finished chunk.
    """
    out = np.empty(size, dtype)
    starts = range(0, size, CHUNK)

    def fill(start, stream):
        part = out[start : start + CHUNK]
        stream.standard_normal(out=part, dtype=dtype)
        return part.size

    streams = [np.random.Generator(np.random.SFC64(s)) for s in rng.bit_generator.seed_seq.spawn(len(starts))]
    for done in _pool().map(fill, starts, streams):
        if progress:
            progress(done)
    return out


def normal_product(R, X, triangle):
    """Return RᵀRX for the columns X (k, d), one to a row, in R's dtype.

    R is flat: the rows of an n×d matrix, or with `triangle` those of a d×d upper triangle without what is below the
    diagonal. float32 or float64.
    """
    X = np.ascontiguousarray(X, dtype=R.dtype)
    groups = [X[c : c + COLUMNS] for c in range(0, len(X), COLUMNS)]
    return np.concatenate([_group(R, group, triangle) for group in groups])


def _group(R, X, triangle):
    k, d = X.shape
    kernel = _kernel(k, triangle)
    n = d if triangle else R.size // d
    share = np.arange(PARTS + 1) / PARTS
    # Equal areas: the first rows of a triangle are the long ones. Cuts at multiples of 8 keep whole groups of rows.
    cuts = n * (1 - np.sqrt(1 - share)) if triangle else n * share
    cuts = np.minimum(np.round(cuts / 8).astype(int) * 8, n)
    cuts[-1] = n
    sums = np.zeros((PARTS, k, d), R.dtype)
    jobs = [_pool().submit(kernel, R, X, sums[p], d, cuts[p], cuts[p + 1]) for p in range(PARTS)]
    for job in jobs:
        job.result()
    return np.sum(sums, axis=0)


def measure(R, x):
    """Return R x for a packed d×d triangle and columns x (k, d), one to a row, as (k, d)."""
    x = x.astype(R.dtype)
    out = np.zeros_like(x)
    for i, row in _rows(R, x.shape[1]):
        out[:, i] = x[:, i:] @ row
    return out


def adjoint(R, w):
    """Return Rᵀw for a packed d×d triangle and columns w (k, d), one to a row, as (k, d)."""
    w = w.astype(R.dtype)
    out = np.zeros_like(w)
    for i, row in _rows(R, w.shape[1]):
        out[:, i:] += w[:, i, None] * row
    return out


def _rows(R, d):
    """The rows of the triangle, each from the diagonal on. One by one is fast enough for what is done once a draw."""
    for i in range(d):
        start = i * d - i * (i - 1) // 2
        yield i, R[start : start + d - i]


@functools.cache
def _kernel(columns, triangle):
    """The compiled kernel (R, X, out, d, first, last): adds rows first…last of RᵀRX to out."""
    import numba

    rows = 8 if columns <= 3 else 4  # as many as the registers hold: rows × columns accumulators
    name = f"{'triangle' if triangle else 'rows'}_{columns}"
    module = _module(name, _source(columns, rows, triangle))
    return numba.njit(cache=True, fastmath=True, nogil=True)(module.kernel)


def _source(columns, rows, triangle):
    """The kernel's text, its loops over rows and columns written out.

    In the last, incomplete group rows are taken one by one.
    """
    C, A = range(columns), range(rows)
    text = ["def kernel(R, X, out, d, first, last):", "    zero = X.dtype.type(0)", "    i = first"]

    def add(depth, *lines):
        text.extend("    " * depth + line for line in lines)

    def block(a_range):
        """One group of rows: products, then the adding back; in a triangle the corner goes entry by entry."""
        height = len(a_range)
        begin = f"i + {height}" if triangle else "0"
        for a in a_range:  # where column 0 of the row would stand
            offset = f"(i + {a}) * d - (i + {a}) * (i + {a} + 1) // 2" if triangle else f"(i + {a}) * d"
            add(2, f"o{a} = {offset}", f"r{a} = R[o{a} + {begin} : o{a} + d]")
        for c in C:
            add(2, f"x{c} = X[{c}, {begin} : d]", f"z{c} = out[{c}, {begin} : d]")
        add(2, *(f"s{a}_{c} = zero" for a in a_range for c in C))
        add(2, f"for j in range(d - ({begin})):")
        add(3, *(f"v{a} = r{a}[j]" for a in a_range))
        for c in C:
            add(3, f"x = x{c}[j]", *(f"s{a}_{c} += v{a} * x" for a in a_range))
        corner = [(a, b) for a in a_range for b in range(a, height)] if triangle else []
        for a, b in corner:
            add(2, *(f"s{a}_{c} += R[o{a} + i + {b}] * X[{c}, i + {b}]" for c in C))
        for a, b in corner:
            add(2, *(f"out[{c}, i + {b}] += R[o{a} + i + {b}] * s{a}_{c}" for c in C))
        add(2, f"for j in range(d - ({begin})):")
        add(3, *(f"v{a} = r{a}[j]" for a in a_range))
        add(3, *(f"z{c}[j] += " + " + ".join(f"v{a} * s{a}_{c}" for a in a_range) for c in C))
        add(2, f"i += {height}")

    add(1, f"while i + {rows} <= last:")
    block(A)
    add(1, "while i < last:")
    block(range(1))
    return "\n".join(text) + "\n"


def _module(name, source):
    """The module of this text, from a file that lasts, so that what Numba compiles of it is found again."""
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "wnlib"
    path = folder / f"{name}_{hashlib.sha256(source.encode()).hexdigest()[:12]}.py"
    if not path.exists():
        try:
            _write(path, source)
        except OSError:  # no home to write to, or a full one: compile anew each time
            path = pathlib.Path(tempfile.mkdtemp()) / path.name
            _write(path, source)
    spec = importlib.util.spec_from_file_location(f"wnlib_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where Numba looks when it loads what it has compiled before
    spec.loader.exec_module(module)
    return module


def _write(path, text):
    """Write the file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(f".{os.getpid()}")
    aside.write_text(text)
    aside.replace(path)
