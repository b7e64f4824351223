"""The Stiefel manifold St(m, r) = {X : XᵀX = I_r} with the Euclidean metric, on stacks (..., m, r).

A retraction R(X, V) moves from X along the tangent vector V and lands on the manifold again. All three are
self-correcting: they orthonormalise what they return, so rounding never adds up.
"""

import math

import array_api_compat.numpy
import numpy as np

from wnlib import validate
from wnlib.backend import array_namespace, drawn
from wnlib.linalg import eye_like, inverse_sqrt, mH, squared_norm, sym


def random(m, r, rng, xp=array_api_compat.numpy):
    """Return a uniformly distributed point of St(m, r), the polar factor of a Gaussian matrix (Algorithm 1).

    `rng` is a numpy Generator, giving (m, r), or a list of them, giving (len(rng), m, r): member i depends on
    its own generator only. Raises ValueError unless 1 <= r <= m.
    """
    validate.integer("m", m, 1)
    validate.integer("r", r, 1, m, "r = m is the full Stiefel frame")
    gaussian = drawn(validate.generators("rng", rng), xp, lambda g: g.standard_normal((m, r)))
    left, _, right = xp.linalg.svd(gaussian, full_matrices=False)
    return left @ right


def project(X, G):
    """Return the orthogonal projection of G (..., m, r) on the tangent space at X: G − X sym(XᵀG).

    The same as the paper's (I − XXᵀ)G + ½X(XᵀG − GᵀX), with one product of size m fewer.
    """
    return G - X @ sym(mH(X) @ G)


def polar(X, V):
    """Return the polar factor of X + V, which is (X + V)(I + VᵀV)^{-1/2} for X in St(m, r) and V tangent.

    No decomposition when X + V is near the manifold: Y ← Y(I + D/2 + 3D²/8 + 5D³/16), D = I − YᵀY, the series of
    (I − D)^{-1/2} (Björck and Bowie 1971), brings the distance to it to its fourth power with matrix products only; one
    such step, or just Y(I + D/2), does for most of a run. Far away, one small eigendecomposition comes first. Where
    looking at a number would make the host wait for a device, it comes always, and Y(I + D/2) after it.
    """
    return _orthonormalize(X + V)


def qr(X, V):
    """Return the Q factor of X + V, with R's diagonal positive so that it is unique."""
    xp = array_namespace(X)
    Q, R = xp.linalg.qr(X + V)
    diagonal = xp.linalg.diagonal(R)
    return Q * xp.where(diagonal < 0, -xp.ones_like(diagonal), xp.ones_like(diagonal))[..., None, :]


def cayley(X, V):
    """Return the Cayley transform (I − W/2)^{-1}(I + W/2) X, W = PVXᵀ − X(PV)ᵀ, P = I − ½XXᵀ.

    W has rank 2r, so one 2r×2r system does (Wen and Yin 2013, Lemma 4).
    """
    xp = array_namespace(X)
    PV = V - 0.5 * X @ (mH(X) @ V)
    left = xp.concat([PV, X], axis=-1)
    right = xp.concat([X, -PV], axis=-1)
    small = mH(right) @ left
    move = left @ xp.linalg.solve(eye_like(small) - 0.5 * small, mH(right) @ X)
    return _orthonormalize(X + move)  # the transform keeps XᵀX as it is, rounding included: correct it


RETRACTIONS = {"polar": polar, "qr": qr, "cayley": cayley}


def _orthonormalize(Y):
    if not isinstance(Y, np.ndarray):
        return _orthonormalize_blindly(Y)
    near = 1e-4 if Y.dtype == np.float32 else 1e-8  # of ‖D‖²: its square, ‖D‖⁴, is rounding
    for _ in range(8):  # ample: from there it is below rounding after five
        gram = mH(Y) @ Y
        D = eye_like(gram) - gram
        worst = float(np.maximum.reduce(squared_norm(D), axis=None))
        if not worst < 0.9:  # beyond the series' safe basin, ‖D‖ < 1; NaN comes here too
            Y = Y @ inverse_sqrt(gram)
            if not math.isfinite(worst):
                break
            continue
        if worst <= near**2:  # ‖D‖² is rounding
            return Y + Y @ (0.5 * D)
        D2 = D @ D
        Y = Y + Y @ (0.5 * D + 0.375 * D2 + 0.3125 * (D2 @ D))
        if worst <= near:
            break
    return Y


def _orthonormalize_blindly(Y):
    """The same without looking at a number: the eigendecomposition always, then one step of the series."""
    Y = Y @ inverse_sqrt(mH(Y) @ Y)
    gram = mH(Y) @ Y
    return Y + Y @ (0.5 * (eye_like(gram) - gram))
