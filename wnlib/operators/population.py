"""Infinitely many samples."""

from wnlib import validate
from wnlib.linalg import smat, svec


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
