"""Entries of the matrix itself, weighted: completion."""

import array_api_compat.numpy
import numpy as np

from wnlib import validate
from wnlib.backend import drawn
from wnlib.linalg import dim_sym, smat, svec
from wnlib.operators.protocol import beside, require, sample


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
