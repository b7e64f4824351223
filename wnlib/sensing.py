"""Measurement operators M on Sym(m), scaled so that E[M*M] is the identity.

An operator has `m`, `stack` (the shape of its own leading axes), `measure` (M), `adjoint` (M*) and `normal` (M*M
of several stacks in one pass over the operator). A stack of operators, one per seed say, has stack = (S,), and the
matrices given to it begin with that axis.
"""

import bisect
import math

import array_api_compat.numpy
import numpy as np

from wnlib import backend, validate
from wnlib.backend import array_namespace
from wnlib.linalg import dim_sym, smat, svec

# Up to this many coordinates d the d×d matrix of M*M is formed once: one pass a product instead of two.
GRAM_LIMIT = 6000


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
        self._gram = self._matrix_T @ matrix if 2 * n >= d and d <= GRAM_LIMIT else None

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
        xp = array_namespace(self.matrix)
        stacks = [self._under_stack(Z, 2) for Z in Zs]
        z = svec(xp.concat(stacks, axis=-3) if len(stacks) > 1 else stacks[0])
        product = smat(z @ self._matrix_T @ self.matrix if self._gram is None else z @ self._gram)
        answers, start = [], 0
        for Z, stack in zip(Zs, stacks, strict=True):
            stop = start + stack.shape[-3]
            answers.append(xp.reshape(product[..., start:stop, :, :], Z.shape))
            start = stop
        return answers

    def _under_stack(self, x, tail):
        """`x` (*stack, ..., tail axes) with the axes between the operator's stack and the tail made one."""
        depth, cut = len(self.stack), x.ndim - tail
        if tuple(x.shape[:depth]) != self.stack:
            lead = tuple(x.shape[:cut])
            raise ValueError(f"input has leading shape {lead}: must begin with the operator's stack {self.stack}")
        return array_namespace(x).reshape(x, (*self.stack, -1, *x.shape[cut:]))

    def _apply(self, x, matrix):
        if x.shape[-1] != matrix.shape[-2]:
            raise ValueError(f"w has {x.shape[-1]} measurements: must be {matrix.shape[-2]}, as many as the operator")
        product = self._under_stack(x, 1) @ matrix
        return array_namespace(x).reshape(product, (*x.shape[:-1], matrix.shape[-1]))


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


def triangular(m, n, rng, xp=array_api_compat.numpy):
    """Return an operator with d measurements under which every trajectory has the same law as under `gaussian`.

    The n×d Gaussian matrix is QR with R upper triangular, its entries independent: √n R_ij ~ N(0, 1) above the
    diagonal, n R_ii² ~ χ² with n − i + 1 degrees of freedom, i from 1. M*M = RᵀR, so neither cost nor memory
    depends on n. Raises ValueError when n < d (R would be a trapezium: `gaussian` costs less there).
    """
    d = _require("triangular", m, n, rng, xp)

    def fill(g, R):
        g.standard_normal(out=R)
        for i in range(d):
            R[i, :i] = 0
        np.fill_diagonal(R, np.sqrt(g.chisquare(n - np.arange(d))))
        R /= math.sqrt(n)

    return Dense(_draw(rng, xp, (d, d), fill))


OPERATORS = {"population": population, "dense": gaussian, "triangular": triangular}


def operator(kind, m, n, rng, xp=array_api_compat.numpy):
    """Return the operator named `kind`: "population", "dense" or "triangular".

    Raises ValueError for an unknown kind, m < 1, n < 1, and what the operator itself refuses.
    """
    make = validate.choice("operator", kind, OPERATORS)
    validate.integer("n", n, 1)
    return make(m, n, rng, xp)


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
    shape = (*A.shape[len(operator.stack) : -2], operator.matrix.shape[-2])
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


def _require(kind, m, n, rng, xp):
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
        rows = d if kind == "triangular" else n
        return 8 * operators * (rows * d + (d * d if 2 * rows >= d and d <= GRAM_LIMIT else 0))

    def instead(free):
        if kind == "dense" and n > d and need("triangular", m) <= free:
            return f"operator = 'triangular' has the same law in {backend.gib(need('triangular', m))}"
        largest = min(m, math.isqrt(2 * free))  # d alone needs more than is free beyond
        fits = bisect.bisect_right(range(1, largest + 1), free, key=lambda smaller: need(kind, smaller))
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
