"""Measurements by rank-one matrices a aᵀ, as in phase retrieval."""

import math

import array_api_compat.numpy

from wnlib import validate
from wnlib.backend import array_namespace, drawn
from wnlib.linalg import eye_like, mT, sym, trace
from wnlib.operators.protocol import beside, require


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
        a = beside(self.vectors, self.stack, validate.stacked(Z, self.stack, 2))
        forms = array_namespace(Z).vecdot(a @ Z, a)
        return (forms - self.centre * trace(Z)[..., None]) / math.sqrt(2 * self.n)

    def adjoint(self, w):
        """Return M*(w) (..., m, m) for w (..., n) whose leading axes begin with `stack`."""
        validate.measurements(w, self.n)
        a = beside(self.vectors, self.stack, validate.stacked(w, self.stack, 1))
        outer = sym(mT(a * w[..., None]) @ a)
        total = array_namespace(w).sum(w, axis=-1)[..., None, None]
        return (outer - self.centre * total * eye_like(outer)) / math.sqrt(2 * self.n)

    def normal(self, *Zs):
        """Return M*M(Z) for each stack Z (..., m, m)."""
        return [self.adjoint(self._measure(Z)) for Z in Zs]


def rank_one(m, n, rng, xp=array_api_compat.numpy, centred=True):
    """Return n measurements by rank-one matrices a aᵀ, a Gaussian; centred: a aᵀ − I, so that E[M*M] is the identity.

    Centring costs nothing where tr A is known: it subtracts it from every measurement.
    """
    require("rank-one", m, n, rng, xp, lambda m, copies: 8 * 3 * copies * n * m)
    return RankOne(drawn(rng, xp, lambda g: g.standard_normal((n, m))), 1.0 if centred else 0.0)
