"""Weight normalization with infinitely many samples: rate, escape from the saddles, and what Theorem 3.2 says.

Notation: P = UᵀXXᵀU (r_A×r_A) is the alignment, Q = I − P. At μ = 2, after one Θ-step Θ = XᵀAX, so that
‖XΘXᵀ − A‖_F² = 2 tr(ΣQΣ) − tr(ΣQΣQ) and −G = (I − XXᵀ) U (ΣPΣ) UᵀX.
"""

from types import SimpleNamespace

import numpy as np
import scipy

from wnlib import validate
from wnlib.backend import to_numpy
from wnlib.linalg import mT


def alignment(U, X):
    """Return P = UᵀXXᵀU (..., r_A, r_A) for U (..., m, r_A) and X (..., m, r): the cosines squared of U to range(X)."""
    Phi = mT(U) @ X
    return Phi @ mT(Phi)


def contraction(sigma, eta):
    """Return the factor by which ‖XΘXᵀ − A‖_F shrinks each step near A: max_i |1 − ησ_i²|, for sigma (..., r_A).

    Linearise at Q = 0: −G = (I − XXᵀ)UΣ²Φ moves the part of U outside range(X) by −ηΣ² times itself, so Q₊ =
    (I − ηΣ²)Q(I − ηΣ²) to first order, the retraction being of second. The error is √(2 tr ΣQΣ), linear in √Q.
    Valid for 0 < η < 2/σ_1²; 1 − η/κ² for σ_1 = 1 and η ≤ 2/(1 + κ⁻²). It does not depend on r.
    """
    eta = validate.positive("eta", eta)
    return np.max(np.abs(1 - eta * to_numpy(sigma) ** 2), axis=-1)


def levels(P, sigma):
    """Return how far each level is found, p_ℓ = λ_ℓ(ΣPΣ)/σ_ℓ² (..., r_A) in [0, 1], a NumPy array.

    ΣPΣ has the nonzero eigenvalues of XᵀA²X, so p_ℓ σ_ℓ² is the ℓ-th squared singular value of AX. For P
    (..., r_A, r_A) and sigma (r_A,) or (..., r_A), decreasing. Level ℓ counts as learned from p_ℓ = ½ on.
    """
    P, sigma = to_numpy(P), to_numpy(sigma)
    C = sigma[..., :, None] * P * sigma[..., None, :]
    return np.linalg.eigvalsh(C)[..., ::-1] / sigma**2


def escape_times(P_0, sigma, eta):
    """Return the step t_ℓ (..., r_A) at which each level ℓ is learned, a NumPy array: 1/(2η λ_ℓ(ΣP_0Σ)).

    In words, half the inverse square of the ℓ-th singular value of AX_0, over η. For small P the flow is Ċ =
    η(ΣCΣ⁻¹C + CΣ⁻¹CΣ) with C = ΣPΣ, so an eigenpair (c, v) of C has ċ = 2ηc vᵀΣCΣ⁻¹v. That is 2ηc², and 1/c falls by 2η
    a step until the level is found, exactly so where v is an eigenvector of Σ (levels far apart) or Σ a multiple of I
    (levels equal), and up to O(1/r) in between. Leading order in p_0; `crossing_time` has the next ones.
    """
    return 1 / (2 * validate.positive("eta", eta) * levels(P_0, sigma) * to_numpy(sigma) ** 2)


def crossing_time(p_0, p_1, sigma, eta):
    """Return the number of steps in which a level of singular value sigma goes from alignment p_0 to p_1.

    p as in `levels`. With the other levels found the step is scalar: p/(1 − p) is multiplied by
    ((1 + xpq)/(1 − xp²))², x = ησ², q = 1 − p. It is the time-one map of the flow du/dt = 2xp − x²p²(3 − 4p) + O(x³)
    in u = ln p/(1 − p). Integrated: t = [1/p_0 − 1/p_1 + u_1 − u_0]/(2x) + ¾ ln(p_1/p_0) + ¼ ln((1 − p_1)/(1 − p_0)) +
    O(x). The first term is the escape law, u_1 − u_0 its correction in p_0, the rest that of a finite step.
    Broadcasts; 0 < p_0, p_1 < 1.
    """
    x = validate.positive("eta", eta) * np.asarray(sigma) ** 2
    p_0, p_1 = np.asarray(p_0), np.asarray(p_1)
    flow = 1 / p_0 - 1 / p_1 + np.log(p_1 / (1 - p_1)) - np.log(p_0 / (1 - p_0))
    return flow / (2 * x) + 0.75 * np.log(p_1 / p_0) + 0.25 * np.log((1 - p_1) / (1 - p_0))


def escape_law(m, r, level, sigma, eta):
    """Return the law of `escape_times` for X_0 uniform on St(m, r) and levels far apart: a distribution of scipy.stats.

    λ_ℓ(ΣP_0Σ)/σ_ℓ² is then the Schur complement 1/[(P_0[:ℓ, :ℓ])⁻¹]_ℓℓ, which is Beta((r − ℓ + 1)/2, (m − r)/2) for
    the level ℓ = 1, 2, … (Bartlett): t = (1 + b)/(2ησ²) with b = (1 − p_0)/p_0 beta-prime. Its `mean()`,
    (m − ℓ − 1)/(2ησ²(r − ℓ − 1)), is the expected burn-in at ℓ = r_A, m ≫ r ≫ r_A; for close or equal levels it is
    too short, 1/λ_min(ΣP_0Σ) counts instead (`escape_times`). It is infinite for r <= ℓ + 1; P(t > x) falls as
    x^{−(r − ℓ + 1)/2}. Raises ValueError unless level <= r < m (at r = m range(X) holds U from the start).
    """
    validate.integer("r", r, validate.integer("level", level, 1), validate.integer("m", m, 2) - 1, "level <= r < m")
    unit = 1 / (2 * validate.positive("eta", eta) * sigma**2)
    return scipy.stats.betaprime((m - r) / 2, (r - level + 1) / 2, loc=unit, scale=unit)


def theorem(m, r, r_A, kappa):
    """Return what Theorem 3.2 asks for and promises, up to constants, r > r_A: RIP δ, η, burn-in, rate, samples n.

    Its rate is η/κ² at its own η: 1 − `contraction`. Its burn-in is longer than the mean of `escape_law` at its η
    by 2 m r² r_A/(r − r_A)³ for r well above r_A: the power of κ is the same, κ² being that of η.
    """
    s = validate.integer("r", r, validate.integer("r_A", r_A, 1) + 1, m, "r_A < r <= m") - r_A
    kappa = validate.real("kappa", kappa, 1)
    return SimpleNamespace(
        rip=s**6 / (kappa**2 * m**3 * r**4 * r_A),
        eta=s**4 / (kappa**2 * m**2 * r**2 * r_A),
        burn_in=kappa**4 * m**4 * r**4 * r_A**2 / s**8,
        rate=s**4 / (kappa**4 * m**2 * r**2 * r_A),
        samples=kappa**4 * m**7 * r**9 * r_A**2 / s**12,
    )
