"""Gradient descent on YYᵀ in population: its tail, and its floor from a small start."""

import math

import numpy as np

from wnlib import validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import mT


def gd_tail(t, m, r, r_A, eta):
    """Return gradient descent's ‖YYᵀ − A‖_F at step t, for r > r_A and t large: √(min(r, m) − r_A)/(2ηt).

    A spare direction, one of min(r, m) − r_A, has singular value y with y₊ = y − ηy³: 1/y² grows by 2η each step,
    so y² → 1/(2ηt). Population; the rank-r_A part has converged linearly by then.
    """
    eta = validate.positive("eta", eta)
    validate.integer("m", m, validate.integer("r_A", r_A, 1))
    validate.integer("r", r, r_A + 1, why="r > r_A: there is no such tail at r = r_A")
    if np.any(np.asarray(t) <= 0):
        raise ValueError(f"t = {validate.shown(t)}: must be > 0, the law holds for t large")
    return math.sqrt(min(r, m) - r_A) / (2 * eta * np.asarray(t, dtype=float))


def gd_small_start(t, U, Y_0, eta):
    """Return gradient descent's ‖YYᵀ − A‖_F (T, ...) at steps t (T,) from a small start Y_0 (..., m, r), A found.

    Small Y keeps the row space of UᵀY_0: its rows become A, and U_⊥ᵀY loses what lies in them. The rest, singular
    values s_i of U_⊥ᵀY_0 (I − projection on that row space), follows s₊ = s − ηs³, so s² → 1/(1/s_0² + 2ηt). A floor
    of order ‖Y_0‖² until t ~ 1/(2ηs²), the 1/t tail afterwards. Population, to leading order in ‖Y_0‖.
    """
    eta = validate.positive("eta", eta)
    xp = array_namespace(Y_0)
    signal = mT(U) @ Y_0
    outside = Y_0 - U @ signal
    _, _, rows = xp.linalg.svd(signal, full_matrices=False)
    spare = outside - (outside @ mT(rows)) @ rows
    s2 = to_numpy(xp.linalg.svdvals(spare))[None] ** 2
    grown = s2 / (1 + 2 * eta * np.reshape(np.asarray(t, dtype=float), (-1,) + (1,) * (s2.ndim - 1)) * s2)
    return np.sqrt(np.sum(grown**2, axis=-1))
