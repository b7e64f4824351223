"""Entries of the matrix itself: completion, and a family built to have spurious solutions."""

import math

import array_api_compat.numpy
import numpy as np

from wnlib import backend, validate
from wnlib.linalg import dim_sym, smat, svec
from wnlib.operators.protocol import beside, drawn, require, sample


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
        return Z * beside(self.weights, self.stack, validate.stacked(Z, self.stack, 2))


def entries(m, n, rng, xp=array_api_compat.numpy):
    """Return entrywise sampling (matrix completion): n of the d entries on and above the diagonal, alike likely.

    E[M*M] is the identity, and still no restricted isometry holds: a matrix with one entry is seen or it is not.
    Raises ValueError for n > d.
    """
    d = dim_sym(validate.integer("m", m, 1))
    require("entries", m, n, rng, xp, lambda m, copies: 8 * (copies + 3) * m * m, d)

    def draw(g):
        weights = np.zeros((m, m))
        weights[np.triu_indices(m)] = sample(g, n, d)
        return weights + np.triu(weights, 1).T

    return Entries(drawn(rng, xp, draw))


def spurious(m, epsilon, xp=array_api_compat.numpy):
    """Return the operator of Yalcin, Zhang, Lavaei and Sojoudi (arXiv 2110.10279) and its rank-one truth zzᵀ (m, m).

    z is 1 at the even indices (from 0) and 0 elsewhere, scaled to ‖z‖ = 1. The diagonal and every entry of an odd row
    or column have weight 1, the rest epsilon, so that M*M lies between ε² and 1. For small epsilon every vector with
    the entries ±z is a local minimum of ‖M(yyᵀ − zzᵀ)‖²: 2^⌈m/2⌉ of them, all but ±z spurious. Raises ValueError
    unless m >= 2 and 0 < epsilon <= 1.
    """
    validate.integer("m", m, 2)
    backend.require_memory(40 * m * m, f"spurious family with m = {m}", lambda free: "a smaller m would fit", xp)
    epsilon = validate.positive("epsilon", epsilon)
    if epsilon > 1:
        raise ValueError(f"epsilon = {epsilon:g}: must be at most 1, the weight of the entries that are seen")
    even = np.arange(m) % 2 == 0
    weights = np.where(even[:, None] & even[None, :] & ~np.eye(m, dtype=bool), epsilon, 1.0)
    z = even / math.sqrt(np.count_nonzero(even))
    return Entries(xp.asarray(weights)), xp.asarray(np.outer(z, z))
