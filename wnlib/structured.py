"""Structured measurement operators, matrix-free: beyond Gaussian, and beyond the sizes that a matrix allows.

Each has the protocol of sensing's: `m`, `stack`, `measure` (M), `adjoint` (M*), `normal` (M*M of several stacks); drawn
by a function of (m, n, rng, xp), it is named in sensing.OPERATORS.
"""

import importlib
import math

import array_api_compat
import array_api_compat.numpy
import numpy as np
import scipy.fft

from wnlib import backend, validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import dim_sym, eye_like, mT, smat, svec, sym, trace


class Cosine:
    """M(Z) = weights ∘ C(signs ∘ x): the orthonormal cosine transform C of the coordinates x of Z, weighted.

    x is svec(Z), d = m(m+1)/2; with `split` = p it is √2 vec(B) for the block B = Z[:p, p:] above the diagonal, which
    is then all of Z that is seen, d = p(m−p). signs are ±1 and weights √(d/n) for the n coefficients measured, 0 for
    the rest (y keeps zeros in their place), both (*stack, d). So M*M is d/n times an orthogonal projection.
    O(d log d) time, O(d) memory; `scipy.fft.set_workers` shares several matrices among cores.
    """

    def __init__(self, m, weights, signs, split=None):
        self.m, self.weights, self.signs, self.split = m, weights, signs, split
        self.stack = tuple(weights.shape[:-1])

    def measure(self, Z):
        """Return y = M(Z) (..., d) for symmetric Z (..., m, m) whose leading axes begin with `stack`."""
        return self._measure(validate.matrices("Z", Z, (self.m, self.m)))

    def _measure(self, Z):
        between = validate.stacked(Z, self.stack, 2)
        x = svec(Z) if self.split is None else _block(Z, self.split)
        y = transform("dct", x * self._signs(between))
        y *= _beside(self.weights, self.stack, between)
        return y

    def adjoint(self, w):
        """Return M*(w) (..., m, m) for w (..., d) whose leading axes begin with `stack`."""
        validate.measurements(w, self.weights.shape[-1])
        between = validate.stacked(w, self.stack, 1)
        x = transform("idct", w * _beside(self.weights, self.stack, between))
        x *= self._signs(between)
        return smat(x) if self.split is None else _unblock(x, self.split, self.m)

    def normal(self, *Zs):
        """Return M*M(Z) for each stack Z (..., m, m)."""
        return [self.adjoint(self._measure(Z)) for Z in Zs]

    def _signs(self, between):
        return _beside(self.signs, self.stack, between)


class Entries:
    """M(Z) = svec(weights ∘ Z): every entry of Z on its own, for symmetric `weights` (*stack, m, m). O(m²)."""

    def __init__(self, weights):
        self.m = validate.matrices("weights", weights, (None, None)).shape[-1]
        self.weights = validate.matrices("weights", weights, (self.m, self.m), symmetric=True)
        self.stack = tuple(weights.shape[:-2])

    def measure(self, Z):
        """Return y = M(Z) (..., d) for symmetric Z (..., m, m) whose leading axes begin with `stack`."""
        return svec(self._weigh(validate.matrices("Z", Z, (self.m, self.m))))

    def adjoint(self, w):
        """Return M*(w) (..., m, m) for w (..., d) whose leading axes begin with `stack`."""
        validate.measurements(w, dim_sym(self.m))
        return self._weigh(smat(w))

    def normal(self, *Zs):
        """Return M*M(Z) = weights² ∘ Z for each stack Z (..., m, m)."""
        return [self._weigh(self._weigh(Z)) for Z in Zs]

    def _weigh(self, Z):
        return Z * _beside(self.weights, self.stack, validate.stacked(Z, self.stack, 2))


class RankOne:
    """M(Z)_i = (a_iᵀ Z a_i − centre·tr Z)/√(2n) for the rows a_i of `vectors` (*stack, n, m).

    O(nm²) time, O(nm) memory. For Gaussian a, E[M*M](Z) = Z + ½ tr(Z) I at centre = 0, which is not the identity, and
    E[M*M](Z) = Z at centre = 1: E[(aᵀZa) aaᵀ] = 2Z + tr(Z) I (Isserlis), and of the three terms that the centre adds
    two take tr(Z) I away and one gives it back.
    """

    def __init__(self, vectors, centre=1.0):
        self.vectors, self.centre = validate.matrices("vectors", vectors, (None, None)), centre
        self.n, self.m = vectors.shape[-2:]
        self.stack = tuple(vectors.shape[:-2])

    def measure(self, Z):
        """Return y = M(Z) (..., n) for symmetric Z (..., m, m) whose leading axes begin with `stack`."""
        return self._measure(validate.matrices("Z", Z, (self.m, self.m)))

    def _measure(self, Z):
        a = _beside(self.vectors, self.stack, validate.stacked(Z, self.stack, 2))
        forms = array_namespace(Z).vecdot(a @ Z, a)
        return (forms - self.centre * trace(Z)[..., None]) / math.sqrt(2 * self.n)

    def adjoint(self, w):
        """Return M*(w) (..., m, m) for w (..., n) whose leading axes begin with `stack`."""
        validate.measurements(w, self.n)
        a = _beside(self.vectors, self.stack, validate.stacked(w, self.stack, 1))
        outer = sym(mT(a * w[..., None]) @ a)
        total = array_namespace(w).sum(w, axis=-1)[..., None, None]
        return (outer - self.centre * total * eye_like(outer)) / math.sqrt(2 * self.n)

    def normal(self, *Zs):
        """Return M*M(Z) for each stack Z (..., m, m)."""
        return [self.adjoint(self._measure(Z)) for Z in Zs]


def cosine(m, n, rng, xp=array_api_compat.numpy, split=None):
    """Return the subsampled randomised cosine transform: n of its d coefficients, random signs first.

    `split` = p measures the p×(m−p) block above the diagonal only (see Cosine). Raises ValueError for n > d.
    """
    validate.integer("m", m, 1)
    if split is not None:
        validate.integer("split", split, 1, m - 1, f"rows of the block, at most m − 1 = {m - 1}")
    d = dim_sym(m) if split is None else split * (m - split)
    # Weights, signs, the index maps of svec, and what a product makes on its way.
    _require("cosine", m, n, rng, xp, d, lambda m, copies: 8 * (2 * copies * dim_sym(m) + 2 * m * m + 6 * dim_sym(m)))
    weights = _drawn(rng, xp, lambda g: _sample(g, n, d))
    signs = _drawn(rng, xp, lambda g: g.choice([-1.0, 1.0], d))
    return Cosine(m, weights, signs, split)


def entries(m, n, rng, xp=array_api_compat.numpy):
    """Return entrywise sampling (matrix completion): n of the d entries on and above the diagonal, alike likely.

    E[M*M] is the identity, and still no restricted isometry holds: a matrix with one entry is seen or it is not.
    Raises ValueError for n > d.
    """
    d = dim_sym(validate.integer("m", m, 1))
    _require("entries", m, n, rng, xp, d, lambda m, copies: 8 * (copies + 3) * m * m)

    def draw(g):
        weights = np.zeros((m, m))
        weights[np.triu_indices(m)] = _sample(g, n, d)
        return weights + np.triu(weights, 1).T

    return Entries(_drawn(rng, xp, draw))


def rank_one(m, n, rng, xp=array_api_compat.numpy, centred=True):
    """Return n measurements by rank-one matrices a aᵀ, a Gaussian; centred: a aᵀ − I, so that E[M*M] is the identity.

    Centring costs nothing where tr A is known: it subtracts it from every measurement.
    """
    _require("rank-one", m, n, rng, xp, None, lambda m, copies: 8 * 3 * copies * n * m)
    return RankOne(_drawn(rng, xp, lambda g: g.standard_normal((n, m))), 1.0 if centred else 0.0)


def spurious(m, epsilon, xp=array_api_compat.numpy):
    """Return the operator of Yalcin, Zhang, Lavaei and Sojoudi (arXiv 2110.10279) and its rank-one truth zzᵀ (m, m).

    z is 1 at the even indices (from 0) and 0 elsewhere, scaled to ‖z‖ = 1. The diagonal and every entry of an odd row
    or column have weight 1, the rest epsilon, so that M*M lies between ε² and 1. For small epsilon every vector with
    the entries ±z is a local minimum of ‖M(yyᵀ − zzᵀ)‖²: 2^⌈m/2⌉ of them, all but ±z spurious. Raises ValueError
    unless m >= 2 and 0 < epsilon <= 1.
    """
    validate.integer("m", m, 2)
    epsilon = validate.positive("epsilon", epsilon)
    if epsilon > 1:
        raise ValueError(f"epsilon = {epsilon:g}: must be at most 1, the weight of the entries that are seen")
    even = np.arange(m) % 2 == 0
    weights = np.where(even[:, None] & even[None, :] & ~np.eye(m, dtype=bool), epsilon, 1.0)
    z = even / math.sqrt(np.count_nonzero(even))
    return Entries(xp.asarray(weights)), xp.asarray(np.outer(z, z))


OPERATORS = {"rank-one": rank_one, "cosine": cosine, "entries": entries}


def _sample(g, n, d):
    """Weights (d,) of n coordinates out of d, uniformly without replacement: √(d/n), and 0 for the rest."""
    weights = np.zeros(d)
    weights[g.choice(d, n, replace=False)] = math.sqrt(d / n)
    return weights


def _drawn(rng, xp, draw):
    return xp.asarray(np.stack([draw(g) for g in rng]) if isinstance(rng, list) else draw(rng))


def _block(Z, p):
    """√2 vec(B) (..., p(m−p)) of the block B = Z[:p, p:]: isometric, since B stands in Z twice."""
    B = Z[..., :p, p:]
    return math.sqrt(2) * array_namespace(Z).reshape(B, (*Z.shape[:-2], p * (Z.shape[-1] - p)))


def _unblock(x, p, m):
    """The matrix [[0, B], [Bᵀ, 0]] (..., m, m) with √2 vec(B) = x (..., p(m−p))."""
    xp = array_namespace(x)
    B = xp.reshape(math.sqrt(0.5) * x, (*x.shape[:-1], p, m - p))
    Z = xp.zeros((*x.shape[:-1], m, m), dtype=x.dtype, device=x.device)
    Z[..., :p, p:], Z[..., p:, :p] = B, mT(B)
    return Z


def transform(name, x):
    """scipy.fft's orthonormal `name` of x along its last axis, CuPy's own for its arrays. x is a temporary."""
    if array_api_compat.is_cupy_array(x):
        return getattr(importlib.import_module("cupyx.scipy.fft"), name)(x, norm="ortho", overwrite_x=True)
    return array_namespace(x).asarray(getattr(scipy.fft, name)(to_numpy(x), norm="ortho", overwrite_x=True))


def _beside(parameter, stack, between):
    """`parameter` (*stack, ...) with axes of length 1 after its stack, to stand beside an input that has more."""
    shape = (*stack, *(1,) * between, *parameter.shape[len(stack) :])
    return array_namespace(parameter).reshape(parameter, shape)


def _require(kind, m, n, rng, xp, d, need):
    """Raise unless m, n and rng are in order, n ≤ d where d is given, and need(m, operators) bytes are free."""
    m, n = validate.integer("m", m, 1), validate.integer("n", n, 1)
    if d is not None and n > d:
        raise ValueError(
            f"n = {validate.shown(n)} > d = {validate.shown(d)} with operator {kind!r}: must be n <= d, there are only "
            "d to sample; use operator = 'dense'"
        )
    copies = len(rng) if isinstance(validate.generators("rng", rng), list) else 1

    def instead(free):
        fits = backend.largest(m, lambda smaller: need(smaller, copies), free)
        return f"m = {fits} would fit" if fits else "free some memory first"

    what = f"operator {kind!r} with m = {validate.shown(m)}, n = {validate.shown(n)}"
    backend.require_memory(need(m, copies), what, instead, xp)
