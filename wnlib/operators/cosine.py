"""The subsampled randomised cosine transform: matrix-free, O(d log d) a product."""

import importlib
import math

import array_api_compat
import array_api_compat.numpy

from wnlib import validate
from wnlib.backend import array_namespace, drawn, to_numpy
from wnlib.linalg import dim_sym, mT, smat, svec
from wnlib.operators.protocol import beside, require, sample


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
        y *= beside(self.weights, self.stack, between)
        return y

    def adjoint(self, w):
        """Return M*(w) (..., m, m) for w (..., d) whose leading axes begin with `stack`."""
        validate.measurements(w, self.weights.shape[-1])
        between = validate.stacked(w, self.stack, 1)
        x = transform("idct", w * beside(self.weights, self.stack, between))
        x *= self._signs(between)
        return smat(x) if self.split is None else _unblock(x, self.split, self.m)

    def normal(self, *Zs):
        """Return M*M(Z) for each stack Z (..., m, m)."""
        return [self.adjoint(self._measure(Z)) for Z in Zs]

    def _signs(self, between):
        return beside(self.signs, self.stack, between)


def cosine(m, n, rng, xp=array_api_compat.numpy, split=None):
    """Return the subsampled randomised cosine transform: n of its d coefficients, random signs first.

    `split` = p measures the p×(m−p) block above the diagonal only (see Cosine). Raises ValueError for n > d.
    """
    validate.integer("m", m, 1)
    if split is not None:
        validate.integer("split", split, 1, m - 1, f"rows of the block, at most m − 1 = {m - 1}")
    d = dim_sym(m) if split is None else split * (m - split)
    # Weights, signs, the index maps of svec, and what a product makes on its way.
    require("cosine", m, n, rng, xp, lambda m, copies: 8 * (2 * copies * dim_sym(m) + 2 * m * m + 6 * dim_sym(m)), d)
    weights = drawn(rng, xp, lambda g: sample(g, n, d))
    signs = drawn(rng, xp, lambda g: g.choice([-1.0, 1.0], d))
    return Cosine(m, weights, signs, split)


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
    cupy = array_api_compat.is_cupy_array(x)
    fft = importlib.import_module("cupyx.scipy.fft" if cupy else "scipy.fft")  # not before it is needed: it takes long
    if cupy:
        return getattr(fft, name)(x, norm="ortho", overwrite_x=True)
    return array_namespace(x).asarray(getattr(fft, name)(to_numpy(x), norm="ortho", overwrite_x=True))
