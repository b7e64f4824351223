"""The laws drawn over the curves: population dynamics of weight normalization at μ = 2, and gradient descent's tail.

Notation: P = UᵀXXᵀU (r_A×r_A) is the alignment, Q = I − P. After one Θ-step Θ = XᵀAX, so that
‖XΘXᵀ − A‖_F² = 2 tr(ΣQΣ) − tr(ΣQΣQ) and −G = (I − XXᵀ) U (ΣPΣ) UᵀX.
"""

import math

import numpy as np

from wnlib import validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import eye_like, inverse_sqrt, mT, sym, trace


def contraction(sigma, eta):
    """Return the factor by which ‖XΘXᵀ − A‖_F shrinks each step near A: max_i |1 − ησ_i²|, for sigma (..., r_A).

    Linearise at Q = 0: −G = (I − XXᵀ)UΣ²Φ moves the part of U outside range(X) by −ηΣ² times itself, so Q₊ =
    (I − ηΣ²)Q(I − ηΣ²) to first order, the retraction being of second. The error is √(2 tr ΣQΣ), linear in √Q.
    Valid for 0 < η < 2/σ_1²; 1 − η/κ² for σ_1 = 1 and η ≤ 2/(1 + κ⁻²). It does not depend on r.
    """
    eta = validate.positive("eta", eta)
    return np.max(np.abs(1 - eta * to_numpy(sigma) ** 2), axis=-1)


def alignment(U, X):
    """Return P = UᵀXXᵀU (..., r_A, r_A) for U (..., m, r_A) and X (..., m, r): the cosines squared of U to range(X)."""
    Phi = mT(U) @ X
    return Phi @ mT(Phi)


def escape_times(P_0, sigma, eta):
    """Return the step t_ℓ (..., r_A) at which each level ℓ is learned, a NumPy array: [(P_0[:ℓ, :ℓ])⁻¹]_ℓℓ / (2ησ_ℓ²).

    Near the saddle A_{ℓ−1} the leading ℓ−1 directions are aligned, and the Schur complement p of the ℓ-th obeys
    dp/dt = 2ησ_ℓ² p²(1 − p): for small p it takes 1/(2ησ_ℓ² p_0) to leave, and [(P_0[:ℓ, :ℓ])⁻¹]_ℓℓ is 1/p_0. To
    leading order in p_0, for well-separated levels and ησ² small.
    """
    eta = validate.positive("eta", eta)
    # The Schur complements are the squared diagonal of the Cholesky factor.
    root = np.linalg.diagonal(np.linalg.cholesky(to_numpy(P_0)))
    return 1 / (2 * eta * (root * to_numpy(sigma)) ** 2)


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


def degrees_of_freedom(m, r):
    """Return r(2m − r + 1)/2, the dimension of the symmetric m×m matrices of rank r."""
    validate.integer("r", r, 0, validate.integer("m", m, 1), f"at most m = {m}")
    return r * (2 * m - r + 1) // 2


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


def reached_dimensions(m, r, r_A):
    """Return D, the number of dimensions that XΘXᵀ reaches from A to first order while its spare directions stay.

    The tangent space of the rank-r_A matrices at A, r_A(2m − r_A + 1)/2, and, through Θ, the symmetric matrices on
    the r − r_A spare directions, (r − r_A)(r − r_A + 1)/2.
    """
    spare = r - r_A
    return degrees_of_freedom(m, r_A) + spare * (spare + 1) // 2


def noise_floor(m, r, r_A, n, noise_std):
    """Return the expected ‖XΘXᵀ − A‖_F² of weight normalization once its linear phase is over, under noise.

    The spare directions hardly move: they escape as slowly as from a saddle, so XΘXᵀ fits the noise in
    D = `reached_dimensions` only. Least squares on D dimensions from n Gaussian measurements, entries N(0, 1/n)
    and noise N(0, noise_std²) each, errs by noise_std² D n/(n − D − 1). Fitting the noise with all r(2m − r + 1)/2
    dimensions comes only after 1/(η‖M*(noise)‖²) steps or so.
    """
    D = reached_dimensions(m, r, r_A)
    validate.integer("n", n, D + 2, why=f"least squares on D = {D} dimensions")
    return np.asarray(noise_std, dtype=float) ** 2 * D * n / (n - D - 1)


def random_alignment(m, r, r_A, draws, rng):
    """Return P_0 (draws, r_A, r_A) and Q_0 = I − P_0 for X_0 uniform on St(m, r): matrix-variate Beta(r/2, (m − r)/2).

    UᵀX_0X_0ᵀU has the law of (W + V)^{-1/2} W (W + V)^{-1/2} with W, V independent Wishart matrices of r and m − r
    degrees of freedom, each drawn as LLᵀ from its Bartlett factor: the cost does not depend on m. Exact for
    r >= r_A and m − r >= r_A; NumPy. Raises ValueError otherwise.
    """
    validate.integer("r", r, r_A, m - r_A, "Wishart matrices of r and m − r degrees of freedom, size r_A")

    def wishart(degrees):
        L = np.tril(rng.standard_normal((draws, r_A, r_A)), -1)
        L[:, np.arange(r_A), np.arange(r_A)] = np.sqrt(rng.chisquare(degrees - np.arange(r_A), (draws, r_A)))
        return L @ mT(L)

    W, V = wishart(r), wishart(m - r)
    root = inverse_sqrt(W + V)
    return sym(root @ W @ root), sym(root @ V @ root)


def reduced_step(P, Q, sigma, eta):
    """Return (P₊, Q₊), the alignment after one step of weight normalization: exact in population at μ = 2.

    −G = (I − XXᵀ)U C Φ with C = ΣPΣ and Φ = UᵀX, so Uᵀ(X − ηG) = (I + ηQC)Φ, and GᵀG = ΦᵀCQCΦ. With the polar
    retraction P₊ = (I + ηQC) Φ (I + η²ΦᵀCQCΦ)^{-1} Φᵀ (I + ηCQ), and Φ(I + η²ΦᵀBΦ)^{-1}Φᵀ = P(I + η²BP)^{-1} for
    B = CQC. Q₊ = I − P₊ follows likewise, from (I − XXᵀ)U. Neither m nor r enters. P and Q are iterated side by side
    and symmetrised, which keeps Q accurate to its last bit however small. P, Q (..., r_A, r_A), sigma (r_A,).
    """
    C = sigma[:, None] * P * sigma
    eye = eye_like(P)
    xp = array_namespace(P)

    def half(A, B):
        # A(I + η²BA)^{-1}, between (I ± η·) factors below; solved from the right.
        return mT(xp.linalg.solve(mT(eye + eta**2 * B @ A), mT(A)))

    left = eye + eta * Q @ C
    right = eye - eta * P @ C
    P_next = left @ half(P, C @ Q @ C) @ mT(left)
    Q_next = right @ half(Q, C @ P @ C) @ mT(right)
    return sym(P_next), sym(Q_next)


def reduced_error(Q, sigma):
    """Return ‖XΘXᵀ − A‖_F² = 2 tr(ΣQΣ) − tr(ΣQΣQ) for Θ = XᵀAX, from Q (..., r_A, r_A) and sigma (r_A,)."""
    S = sigma[:, None] * Q
    return 2 * trace(S * sigma) - trace(S @ S)


def expected_burn_in(m, r, r_A, sigma, eta):
    """Return the mean escape time of the last level, (m − r_A − 1)/(2ησ²(r − r_A − 1)), for sigma = σ_{r_A}.

    The Schur complement p_0 in `escape_times` is Beta((r − ℓ + 1)/2, (m − r)/2), whose inverse has mean
    (m − ℓ − 1)/(r − ℓ − 1). Infinite for r <= r_A + 1: the burn-in is then heavy-tailed.
    """
    eta = validate.positive("eta", eta)
    return (m - r_A - 1) / (2 * eta * sigma**2 * (r - r_A - 1)) if r > r_A + 1 else math.inf
