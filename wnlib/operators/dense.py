"""Operators that are a matrix in svec coordinates: Gaussian, its triangular equivalent, random signs."""

import copy
import functools
import math

import array_api_compat.numpy
import numpy as np

from wnlib import validate
from wnlib.backend import array_namespace, drawn
from wnlib.linalg import dim_sym, smat, svec
from wnlib.operators.protocol import in_one_pass, require, under_stack

# Up to this many coordinates d the d×d matrix of M*M is formed once: one pass a product instead of two.
GRAM_LIMIT = 2000


class Dense:
    """M(Z) = matrix · svec(Z), for a matrix (*stack, n, d) in svec coordinates, d = m(m+1)/2."""

    def __init__(self, matrix):
        validate.matrices("matrix", matrix, (None, None))
        d = matrix.shape[-1]
        self.m = (math.isqrt(8 * d + 1) - 1) // 2
        if dim_sym(self.m) != d:
            raise ValueError(
                f"matrix has {d} columns: must be d = m(m+1)/2 of them, one per svec coordinate; of symmetric matrices "
                "(n, m, m) take linalg.svec, or give them to wnlib.recover"
            )
        self.matrix = matrix
        self.stack = tuple(matrix.shape[:-2])

    def members(self, which):
        """Return the operator of some members of a stack of one axis: `which`, an integer array; nothing is drawn."""
        few, xp = copy.copy(self), array_namespace(self.matrix)
        few.matrix = xp.take(self.matrix, xp.asarray(which), axis=0)
        few.stack = tuple(few.matrix.shape[:-2])
        few._gram = None if self._gram is None else xp.take(self._gram, xp.asarray(which), axis=0)
        return few

    @functools.cached_property
    def _gram(self):
        """M*M's matrix: one d×d pass costs less than two n×d passes from n = d/2 on."""
        return self._matrix_T @ self.matrix if _forms_gram(*self.matrix.shape[-2:]) else None

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
        return in_one_pass(self._normal, Zs, self.stack, self.matrix)

    def _normal(self, z):
        if self._gram is not None:
            return z @ self._gram
        return z @ self._matrix_T @ self.matrix

    def _apply(self, x, matrix):
        validate.measurements(x, matrix.shape[-2])
        product = under_stack(x, self.stack, 1) @ matrix
        return array_namespace(x).reshape(product, (*x.shape[:-1], matrix.shape[-1]))


def gaussian(m, n, rng, xp=array_api_compat.numpy):
    """Return the operator with n Gaussian measurements: an n×d matrix of independent N(0, 1/n) entries.

    Twice the variance on the diagonal of M_i as off it makes M_i a multiple of the GOE; in svec coordinates all
    entries are alike. A list of generators gives a stack of operators. Raises MemoryError when it will not fit.
    """
    _require("dense", m, n, rng, xp, "; operator = 'lazy' has the same law and holds the rows that are asked for")

    def draw(g):
        matrix = g.standard_normal((n, dim_sym(m)))
        matrix /= math.sqrt(n)
        return matrix

    return Dense(drawn(rng, xp, draw))


def rademacher(m, n, rng, xp=array_api_compat.numpy):
    """Return the operator with n measurements whose n×d matrix has independent entries ±1/√n, else as `gaussian`."""
    _require("rademacher", m, n, rng, xp)

    def draw(g):
        rows = (2 * g.integers(0, 2, dim_sym(m), dtype=np.int8) - 1 for _ in range(n))
        return np.stack([row / math.sqrt(n) for row in rows])

    return Dense(drawn(rng, xp, draw))


def triangular(m, n, rng, xp=array_api_compat.numpy):
    """Return an operator with d measurements under which every trajectory has the same law as under `gaussian`.

    The n×d Gaussian matrix is QR with R upper triangular, its entries independent: √n R_ij ~ N(0, 1) above the
    diagonal, n R_ii² ~ χ² with n − i + 1 degrees of freedom, i from 1 (Bartlett). M*M = RᵀR, so neither cost nor memory
    depends on n. The law is that of X, Θ, Z and E; under noise ‖M(Z) − y‖ has another, R carrying d measurements and
    not n. Raises ValueError when n < d (R would be a trapezium: `gaussian` costs less there).
    """
    d = dim_sym(validate.integer("m", m, 1))
    if validate.integer("n", n, 1) < d:
        raise ValueError(
            f"n = {validate.shown(n)} < d = {validate.shown(d)} with operator 'triangular': must be n >= d; "
            "use operator = 'dense'"
        )
    _require("triangular", m, n, rng, xp)

    def draw(g):
        R = g.standard_normal((d, d))
        R[np.tril_indices(d)] = 0
        np.fill_diagonal(R, np.sqrt(g.chisquare(n - np.arange(d))))
        R /= math.sqrt(n)
        return R

    return Dense(drawn(rng, xp, draw))


def _forms_gram(n, d):
    return 2 * n >= d and d <= GRAM_LIMIT


def _require(kind, m, rows, rng, xp, otherwise=""):
    """Refuse what is out of range or too large: (rows, d) for each operator, twice while several are drawn."""

    def need(m, operators):
        d = dim_sym(m)
        n = d if kind == "triangular" else rows
        return 8 * operators * (min(operators, 2) * n * d + (d * d if _forms_gram(n, d) else 0))

    require(kind, m, rows, rng, xp, need, otherwise=otherwise)
