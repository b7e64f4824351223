"""Measurement operators M on Sym(m), scaled so that E[M*M] is the identity.

An operator has `m`, `stack` (the shape of its own leading axes), `measure` (M), `adjoint` (M*) and `normal` (M*M
of several stacks in one pass over the operator). A stack of operators, one per seed say, has stack = (S,), and the
matrices given to it begin with that axis. Those that need no matrix are in structured.
"""

import math

import array_api_compat.numpy
import numpy as np

from wnlib import backend, fused, progress, structured, validate
from wnlib.backend import array_namespace
from wnlib.linalg import dim_sym, mT, smat, svec

# Up to this many coordinates d the d×d matrix of M*M is formed once: one pass a product instead of two. Beyond, the
# passes are fused where they can be (NumPy), and only the triangle's upper half is kept.
GRAM_LIMIT = 2000
BLOCK = 512  # rows of the triangle in one matrix product
STORAGE = ("float64", "float32")
# Entries of a matrix that no longer fits the caches, so that reading it once instead of twice pays.
FUSED_FROM = 4_000_000


class Population:
    """Infinitely many Gaussian samples: M*M is the identity on Sym(m) and M itself is svec."""

    stack = ()

    def __init__(self, m):
        self.m = validate.integer("m", m, 1)

    def measure(self, Z):
        """Return svec(Z) (..., d) for symmetric Z (..., m, m)."""
        return svec(validate.matrices("Z", Z, (self.m, self.m)))

    def adjoint(self, w):
        """Return smat(w) (..., m, m) for w (..., d)."""
        return smat(w)

    def normal(self, *Zs):
        """Return M*M(Z) = Z for each stack Z (..., m, m)."""
        return list(Zs)


class Dense:
    """M(Z) = matrix · svec(Z), for a matrix (*stack, n, d) in svec coordinates, d = m(m+1)/2."""

    def __init__(self, matrix):
        validate.matrices("matrix", matrix, (None, None))
        d = matrix.shape[-1]
        self.m = (math.isqrt(8 * d + 1) - 1) // 2
        if dim_sym(self.m) != d:
            raise ValueError(f"matrix has {d} columns: must be d = m(m+1)/2 of them, one per svec coordinate")
        self.matrix = matrix
        self.stack = tuple(matrix.shape[:-2])
        n = matrix.shape[-2]
        # One d×d pass costs less than two n×d passes from n = d/2 on.
        self._gram = self._matrix_T @ matrix if _forms_gram(n, d) else None

    @property
    def _matrix_T(self):
        return array_namespace(self.matrix).matrix_transpose(self.matrix)

    def measure(self, Z):
        """Return y = M(Z) (..., n) for symmetric Z (..., m, m) whose leading axes begin with `stack`."""
        validate.matrices("Z", Z, (self.m, self.m))
        return self._apply(svec(Z), self._matrix_T)

    def adjoint(self, w):
        """Return M*(w) (..., m, m) for w (..., n) whose leading axes begin with `stack`."""
        return smat(self._apply(w, self.matrix))

    def normal(self, *Zs):
        """Return M*M(Z) for each stack Z (..., m, m): all of them in one pass over the operator."""
        return _in_one_pass(self._normal, Zs, self.stack, self.matrix)

    def _normal(self, z):
        if self._gram is not None:
            return z @ self._gram
        if self.stack == () and isinstance(self.matrix, np.ndarray) and self.matrix.size >= FUSED_FROM:
            return _scaled(lambda x: fused.normal_product(self.matrix.reshape(-1), x, triangle=False), z)
        return z @ self._matrix_T @ self.matrix

    def _apply(self, x, matrix):
        validate.measurements(x, matrix.shape[-2])
        product = _under_stack(x, self.stack, 1) @ matrix
        return array_namespace(x).reshape(product, (*x.shape[:-1], matrix.shape[-1]))


class Triangular:
    """M(Z) = R svec(Z)/√n with R (d×d, upper triangular) packed by rows into one NumPy array, for d in the thousands.

    M*M in one pass over half of what a matrix would hold. With float32 storage a product is accurate to about 1e-6
    of its argument's size, whatever that size is; states stay in float64.
    """

    stack = ()

    def __init__(self, R, m, n):
        self.m, self.R, self.n = m, R, n

    def measure(self, Z):
        """Return y = M(Z) (..., d) for symmetric Z (..., m, m)."""
        return self._apply(fused.measure, svec(validate.matrices("Z", Z, (self.m, self.m))))

    def adjoint(self, w):
        """Return M*(w) (..., m, m) for w (..., d)."""
        validate.measurements(w, dim_sym(self.m))
        return smat(self._apply(fused.adjoint, w))

    def normal(self, *Zs):
        """Return M*M(Z) for each stack Z (..., m, m): all of them in one pass over R."""
        return _in_one_pass(self._normal, Zs, self.stack, self.R)

    def _normal(self, z):
        return _scaled(lambda x: fused.normal_product(self.R, x, triangle=True), z) / self.n

    def _apply(self, product, x):
        rows = _scaled(lambda x: product(self.R, x), x.reshape(-1, x.shape[-1]))
        return rows.reshape(x.shape) / math.sqrt(self.n)


class Blocked:
    """The Triangular operator where there is no fused kernel (CuPy): R as blocks of rows from the diagonal on.

    Two plain matrix products for each block, in the dtype of the blocks; what of them lies below the diagonal is zero.
    """

    stack = ()

    def __init__(self, blocks, m, n):
        self.m, self.blocks, self.n = m, blocks, n

    def measure(self, Z):
        """Return y = M(Z) (..., d) for symmetric Z (..., m, m)."""
        return self._apply(self._forward, svec(validate.matrices("Z", Z, (self.m, self.m))))

    def adjoint(self, w):
        """Return M*(w) (..., m, m) for w (..., d)."""
        validate.measurements(w, dim_sym(self.m))
        return smat(self._apply(self._backward, w))

    def normal(self, *Zs):
        """Return M*M(Z) for each stack Z (..., m, m): all of them in one pass over R."""
        return _in_one_pass(self._normal, Zs, self.stack, self.blocks[0])

    def _normal(self, z):
        return _scaled(lambda x: self._backward(self._forward(x)), z) / self.n

    def _forward(self, x):
        xp = array_namespace(x)
        x, d = xp.astype(x, self.blocks[0].dtype), x.shape[-1]
        return xp.concat([x[:, d - R.shape[1] :] @ mT(R) for R in self.blocks], axis=-1)

    def _backward(self, w):
        xp = array_namespace(w)
        w, d, first = xp.astype(w, self.blocks[0].dtype), w.shape[-1], 0
        out = xp.zeros_like(w)
        for R in self.blocks:
            out[:, d - R.shape[1] :] += w[:, first : first + R.shape[0]] @ R
            first += R.shape[0]
        return out

    def _apply(self, product, x):
        xp = array_namespace(x)
        return xp.reshape(_scaled(product, xp.reshape(x, (-1, x.shape[-1]))), x.shape) / math.sqrt(self.n)


def _scaled(product, x):
    """`product` of the rows x (k, d), each brought to size 1 first: float32 then serves every scale. In x's dtype."""
    xp = array_namespace(x)
    size = xp.max(xp.abs(x), axis=-1, keepdims=True)
    size = xp.where((size > 0) & xp.isfinite(size), size, xp.ones_like(size))
    return xp.astype(product(x / size), x.dtype) * size


def _in_one_pass(product, Zs, stack, matrix):
    """`product` of the svec coordinates (*stack, k, d) of all the stacks Zs together, given back stack by stack.

    Raises TypeError unless they live where the operator's `matrix` does.
    """
    xp = backend.common_namespace({"the operator": matrix} | {f"input {k}": Z for k, Z in enumerate(Zs)})
    stacks = [_under_stack(Z, stack, 2) for Z in Zs]
    together = smat(product(svec(xp.concat(stacks, axis=-3) if len(stacks) > 1 else stacks[0])))
    answers, start = [], 0
    for Z, part in zip(Zs, stacks, strict=True):
        stop = start + part.shape[-3]
        answers.append(_shaped(together[..., start:stop, :, :], Z.shape))
        start = stop
    return answers


def _under_stack(x, stack, tail):
    """`x` (*stack, ..., tail axes) with the axes between the operator's stack and the tail made one."""
    if validate.stacked(x, stack, tail) == 1:
        return x
    return array_namespace(x).reshape(x, (*stack, -1, *x.shape[x.ndim - tail :]))


def _shaped(x, shape):
    """`x` reshaped, at no cost where it has that shape: small products take no longer than the call."""
    return x if x.shape == shape else array_namespace(x).reshape(x, shape)


def population(m, n, rng, xp=array_api_compat.numpy):
    """Return the Population operator; n and rng are not used (n = ∞, nothing is drawn)."""
    return Population(m)


def gaussian(m, n, rng, xp=array_api_compat.numpy):
    """Return the Gaussian operator with n measurements: an n×d matrix of independent N(0, 1/n) entries.

    Twice the variance on the diagonal of M_i as off it makes M_i a multiple of the GOE; in svec coordinates all
    entries are alike. A list of generators gives a stack of operators. Raises MemoryError when it will not fit.
    """
    d = _require("dense", m, n, rng, xp)

    def fill(g, matrix):
        g.standard_normal(out=matrix)
        matrix /= math.sqrt(n)

    return Dense(_draw(rng, xp, (n, d), fill))


def rademacher(m, n, rng, xp=array_api_compat.numpy):
    """Return the operator with n measurements whose n×d matrix has independent entries ±1/√n, else as `gaussian`."""
    d = _require("rademacher", m, n, rng, xp)

    def fill(g, matrix):
        for row in matrix:
            row[:] = (2 * g.integers(0, 2, d, dtype=np.int8) - 1) / math.sqrt(n)

    return Dense(_draw(rng, xp, (n, d), fill))


def triangular(m, n, rng, xp=array_api_compat.numpy, storage="float64"):
    """Return an operator with d measurements under which every trajectory has the same law as under `gaussian`.

    The n×d Gaussian matrix is QR with R upper triangular, its entries independent: √n R_ij ~ N(0, 1) above the
    diagonal, n R_ii² ~ χ² with n − i + 1 degrees of freedom, i from 1. M*M = RᵀR, so neither cost nor memory
    depends on n. For d in the thousands and one generator only R's upper half is kept, in `storage` "float64" or
    "float32" (a state stays float64), and drawn in parallel: packed with NumPy, else in blocks of rows, the same
    numbers, moved to the device one by one. Raises ValueError when n < d (R would be a trapezium: `gaussian`
    costs less there).
    """
    d = _require("triangular", m, n, rng, xp, storage)
    if _packs(d, rng):
        packed = _packed(m, n, rng, storage)
        return packed if backend.name(xp) == "numpy" else blocked(packed, xp)

    def fill(g, R):
        g.standard_normal(out=R)
        for i in range(d):
            R[i, :i] = 0
        np.fill_diagonal(R, np.sqrt(g.chisquare(n - np.arange(d))))
        R /= math.sqrt(n)

    return Dense(_draw(rng, xp, (d, d), fill))


def _packs(d, rng):
    return d > GRAM_LIMIT and not isinstance(rng, list)


def _packed(m, n, rng, storage):
    """The Triangular operator; R's diagonal from `rng` itself, the rest from streams spawned from it."""
    d = dim_sym(m)
    diagonal = np.sqrt(rng.chisquare(n - np.arange(d)))
    size = fused.triangle_size(d)
    label = f"drawing an operator of {backend.gib(size * np.dtype(storage).itemsize)}"
    with progress.bar(size, label, "entry") as bar:
        R = fused.draw_normals(size, rng, np.dtype(storage), bar.update)
    i = np.arange(d)
    R[i * d - i * (i - 1) // 2] = diagonal
    return Triangular(R, m, n)


def blocked(operator, xp):
    """Return the Triangular `operator` as a Blocked one on `xp`: the same numbers, moved there block by block."""
    d, blocks = dim_sym(operator.m), []
    for first in range(0, d, BLOCK):
        block = np.zeros((min(BLOCK, d - first), d - first), operator.R.dtype)
        for k in range(len(block)):
            start = operator.R.size - fused.triangle_size(d - first - k)
            block[k, k:] = operator.R[start : start + d - first - k]
        blocks.append(xp.asarray(block))
    return Blocked(blocks, operator.m, operator.n)


OPERATORS = {
    "population": population,
    "dense": gaussian,
    "triangular": triangular,
    "rademacher": rademacher,
    **structured.OPERATORS,
}


def operator(kind, m, n, rng, xp=array_api_compat.numpy, storage="float64"):
    """Return the operator named `kind`, one of OPERATORS; `storage` is the packed triangle's.

    Raises ValueError for an unknown kind, m < 1, n < 1, and what the operator itself refuses.
    """
    make = validate.choice("operator", kind, OPERATORS)
    validate.integer("n", n, 1)
    validate.choice("storage", storage, STORAGE)
    return make(m, n, rng, xp, storage) if kind == "triangular" else make(m, n, rng, xp)


def data(operator, A, noise_std=0.0, rng=None):
    """Return M*(y) (..., m, m) for y = M(A) + noise: all that a gradient ever needs of the data.

    M*(M(Z) − y) = M*M(Z) − M*(y). The noise is N(0, noise_std²) on each measurement; an array noise_std (...)
    gives each member of the leading axes of A its own level. `rng` is a Generator or one per member of
    operator.stack. Under the triangular equivalent d measurements carry it: M*(noise) keeps its law.
    """
    validate.matrices("A", A, (operator.m, operator.m), symmetric=True)
    xp = array_namespace(A)
    levels = _levels(noise_std, tuple(A.shape[:-2]))
    (b,) = operator.normal(A)
    if not np.any(levels):
        return b
    if isinstance(operator, Population):
        raise ValueError(
            "noise_std > 0 with the population operator: must be 0, infinitely many samples average noise out"
        )
    validate.generators("rng", rng)
    if operator.stack != ((len(rng),) if isinstance(rng, list) else ()):
        given = f"a list of {len(rng)} generators" if isinstance(rng, list) else "one generator"
        raise ValueError(f"rng is {given} for operators of stack {operator.stack}: must be one for each operator")
    shape = tuple(operator.measure(A).shape[len(operator.stack) :])
    unit = _draw(rng, xp, shape, lambda g, noise: g.standard_normal(out=noise))
    return b + operator.adjoint(unit * xp.asarray(levels[..., None]))


def _levels(noise_std, batch):
    """The noise levels as a NumPy array, () or such that it broadcasts with `batch`."""
    if not hasattr(noise_std, "shape"):
        return np.asarray(validate.real("noise_std", noise_std, 0))
    levels = backend.to_numpy(noise_std)
    if levels.dtype.kind not in "iuf" or not np.all(np.isfinite(levels)) or np.any(levels < 0):
        raise ValueError(f"noise_std = {validate.shown(levels.tolist())}: must be finite numbers >= 0")
    try:
        return np.broadcast_to(levels.astype(float), batch)
    except ValueError:
        raise ValueError(f"noise_std has shape {levels.shape}: must broadcast with A's leading axes, {batch}") from None


def _forms_gram(n, d):
    return 2 * n >= d and d <= GRAM_LIMIT


def _require(kind, m, n, rng, xp, storage="float64"):
    """d, once m, n and rng are in order and the operators of this kind fit in memory."""
    n, m = validate.integer("n", n, 1), validate.integer("m", m, 1)
    d = dim_sym(m)
    if kind == "triangular" and n < d:
        raise ValueError(
            f"n = {validate.shown(n)} < d = {validate.shown(d)} with operator 'triangular': must be n >= d; "
            "use operator = 'dense'"
        )
    operators = len(rng) if isinstance(validate.generators("rng", rng), list) else 1

    def need(kind, m):
        d = dim_sym(m)
        if kind == "triangular" and _packs(d, rng):
            return np.dtype(storage).itemsize * fused.triangle_size(d)
        rows = d if kind == "triangular" else n
        return 8 * operators * (rows * d + (d * d if _forms_gram(rows, d) else 0))

    def instead(free):
        if kind == "dense" and n > d and need("triangular", m) <= free:
            return f"operator = 'triangular' has the same law in {backend.gib(need('triangular', m))}"
        if kind == "triangular" and storage == "float64" and _packs(d, rng) and need(kind, m) <= 2 * free:
            return f"storage = 'float32' needs {backend.gib(need(kind, m) // 2)}"
        fits = backend.largest(m, lambda smaller: need(kind, smaller), free)
        fewer = " (or fewer seeds at a time)" if operators > 1 else ""
        return (f"m = {fits} would fit" if fits else "free some memory first") + fewer

    what = f"operator {kind!r} with m = {validate.shown(m)}, n = {validate.shown(n)}"
    backend.require_memory(need(kind, m), what, instead, xp)
    return d


def _draw(rng, xp, shape, fill):
    """An array (*shape) for a generator, (S, *shape) for a list of S, each filled in place by its own."""
    drawn = np.empty((len(rng) if isinstance(rng, list) else 1, *shape))
    for g, member in zip(rng if isinstance(rng, list) else [rng], drawn, strict=True):
        fill(g, member)
    return xp.asarray(drawn if isinstance(rng, list) else drawn[0])
