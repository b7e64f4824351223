"""The laws drawn over the curves: weight normalization in population, at finite n and under noise; gradient descent.

In population its dynamics are exact and small: a step of r_A×r_A matrices at μ = 2, preconditioned or not, and one of
size r for any μ. Beside them stand when Θ's step is stable and what Theorem 3.2 says.

Notation: P = UᵀXXᵀU (r_A×r_A) is the alignment, Q = I − P. At μ = 2, after one Θ-step Θ = XᵀAX, so that
‖XΘXᵀ − A‖_F² = 2 tr(ΣQΣ) − tr(ΣQΣQ) and −G = (I − XXᵀ) U (ΣPΣ) UᵀX.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import scipy.stats

from wnlib import validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import eye_like, inverse_sqrt, mT, squared_norm, sym, trace

QUADRATURE = 400  # nodes of a Gauss rule for Marchenko–Pastur's law
BLOCK = 16  # steps between looks at which draws are through


def contraction(sigma, eta):
    """Return the factor by which ‖XΘXᵀ − A‖_F shrinks each step near A: max_i |1 − ησ_i²|, for sigma (..., r_A).

    Linearise at Q = 0: −G = (I − XXᵀ)UΣ²Φ moves the part of U outside range(X) by −ηΣ² times itself, so Q₊ =
    (I − ηΣ²)Q(I − ηΣ²) to first order, the retraction being of second. The error is √(2 tr ΣQΣ), linear in √Q.
    Valid for 0 < η < 2/σ_1²; 1 − η/κ² for σ_1 = 1 and η ≤ 2/(1 + κ⁻²). It does not depend on r.
    """
    eta = validate.positive("eta", eta)
    return np.max(np.abs(1 - eta * to_numpy(sigma) ** 2), axis=-1)


def sampled_decay(t, m, r, r_A, n, sigma, eta):
    """Return by which factor the error in the linear phase has shrunk t steps into it, from n Gaussian measurements.

    For sigma = σ_{r_A}, κ large enough that all else is faster. The slow error is a vector e in k = m − r dimensions,
    the weakest eigenvector's way out of range(X). The other F = r(r + 1)/2 + (r_A − 1)(m − r) dimensions follow it at
    once, as least squares would, so e₊ = (I − ησ²S)e with S the Schur complement of a Wishart matrix: nS is Wishart
    with n − F degrees of freedom. Averaged over its Marchenko–Pastur law on (√(1 − F/n) ± √(k/n))², e shrinks as
    the root of ∫(1 − ησ²λ)^{2t} dλ: at first by 1 − ησ²(1 − F/n) a step, in the end by the lower edge's factor, and
    by 1 − ησ² for n = ∞. To leading order in ησ². t is a number or an array. Raises ValueError unless
    n > F + k (fewer measurements than that do not determine A near A).
    """
    eta = validate.positive("eta", eta)
    spare = m - validate.integer("r", r, validate.integer("r_A", r_A, 1), validate.integer("m", m, 1), "r_A <= r <= m")
    fast = r * (r + 1) // 2 + (r_A - 1) * spare
    validate.integer("n", n, fast + spare + 1, why=f"{fast} fast and {spare} slow dimensions")
    angle = (np.arange(QUADRATURE) + 0.5) * np.pi / QUADRATURE
    a, c = math.sqrt(1 - fast / n), math.sqrt(spare / n)
    eigenvalues = a**2 + c**2 + 2 * a * c * np.cos(angle)
    weights = np.sin(angle) ** 2 / eigenvalues
    powers = (1 - eta * sigma**2 * eigenvalues) ** (2 * np.asarray(t, dtype=float)[..., None])
    return np.sqrt(powers @ weights / np.sum(weights))


def alignment(U, X):
    """Return P = UᵀXXᵀU (..., r_A, r_A) for U (..., m, r_A) and X (..., m, r): the cosines squared of U to range(X)."""
    Phi = mT(U) @ X
    return Phi @ mT(Phi)


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
    ((1 + xpq)/(1 − xp²))², x = ησ², q = 1 − p. The flow whose time-1 map this is, is du/dt = 2xp − x²p²(3 − 4p) + O(x³)
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
    the level ℓ = 1, 2, … (Bartlett): t = (1 + b)/(2ησ²) with b = (1 − p_0)/p_0 beta-prime. The mean is
    (m − ℓ − 1)/(2ησ²(r − ℓ − 1)), infinite for r <= ℓ + 1; P(t > x) falls as x^{−(r − ℓ + 1)/2}. Raises ValueError
    unless level <= r < m.
    """
    validate.integer("r", r, validate.integer("level", level, 1), validate.integer("m", m, 2) - 1, "level <= r < m")
    unit = 1 / (2 * validate.positive("eta", eta) * sigma**2)
    return scipy.stats.betaprime((m - r) / 2, (r - level + 1) / 2, loc=unit, scale=unit)


def expected_burn_in(m, r, r_A, sigma, eta):
    """Return the mean escape time of the last level, (m − r_A − 1)/(2ησ²(r − r_A − 1)), for sigma = σ_{r_A}.

    The mean of `escape_law`: infinite for r <= r_A + 1, where the burn-in is heavy-tailed.
    """
    eta = validate.positive("eta", eta)
    return (m - r_A - 1) / (2 * eta * sigma**2 * (r - r_A - 1)) if r > r_A + 1 else math.inf


def magnitude_threshold(r, mu=2.0):
    """Return how many measurements keep the step of Θ stable at fixed X: n > r(r + 1)/2 / (2/√μ − 1)².

    Θ₊ = Θ − (μ/2) Xᵀ M*(M(XΘXᵀ) − y) X has the Hessian JᵀJ, J the restriction of M to XSym(r)Xᵀ: n×r(r + 1)/2,
    entries N(0, 1/n). Its largest eigenvalue is (1 + √ρ)², ρ = r(r + 1)/(2n) (Marchenko–Pastur), up to O(n^{-2/3});
    it must stay below 4/μ. At μ = 2 n > 5.83 r(r + 1)/2. Raises ValueError unless 0 < mu < 4.
    """
    validate.integer("r", r, 1)
    if not 0 < validate.real("mu", mu) < 4:
        raise ValueError(f"mu = {mu:g}: must be > 0 and < 4, from 4 on no number of measurements is enough")
    return r * (r + 1) / 2 / (2 / math.sqrt(mu) - 1) ** 2


class Theorem(NamedTuple):
    """Theorem 3.2's expressions, each up to a constant that it leaves open."""

    rip: float
    eta: float
    burn_in: float
    contraction: float
    samples: float


def theorem(m, r, r_A, kappa):
    """Return what Theorem 3.2 asks for and promises, for r > r_A: RIP δ, step η, burn-in, 1 − rate, Gaussian samples n.

    Its rate is η/κ² at its own η, as `contraction` has it. Its burn-in is longer than `expected_burn_in` at its η by
    2 m r² r_A/(r − r_A)³ for r well above r_A: the power of κ is the same, κ² being that of η.
    """
    s = validate.integer("r", r, validate.integer("r_A", r_A, 1) + 1, m, "r_A < r <= m") - r_A
    kappa = validate.real("kappa", kappa, 1)
    return Theorem(
        rip=s**6 / (kappa**2 * m**3 * r**4 * r_A),
        eta=s**4 / (kappa**2 * m**2 * r**2 * r_A),
        burn_in=kappa**4 * m**4 * r**4 * r_A**2 / s**8,
        contraction=s**4 / (kappa**4 * m**2 * r**2 * r_A),
        samples=kappa**4 * m**7 * r**9 * r_A**2 / s**12,
    )


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
    degrees of freedom, each drawn as LLᵀ from its Bartlett factor (a trapezium, for fewer degrees than r_A): the cost
    does not depend on m. For m − r < r_A, r_A − (m − r) directions are found from the start. NumPy. Raises ValueError
    unless r_A <= r <= m.
    """
    validate.integer("r", r, validate.integer("r_A", r_A, 1), validate.integer("m", m, 1), "r_A <= r <= m")
    validate.integer("draws", draws, 1)

    def wishart(degrees):
        L = np.tril(rng.standard_normal((draws, r_A, r_A)), -1)
        on = np.arange(min(degrees, r_A))
        L[:, on, on] = np.sqrt(rng.chisquare(degrees - on, (draws, on.size)))
        L[:, :, on.size :] = 0
        return L @ mT(L)

    W, V = wishart(r), wishart(m - r)
    root = inverse_sqrt(W + V)
    return sym(root @ W @ root), sym(root @ V @ root)


def reduced_step(P, Q, sigma, eta, damping=None):
    """Return (P₊, Q₊), the alignment after one step of weight normalization: exact in population at μ = 2.

    −G = (I − XXᵀ)U C Φ with C = ΣPΣ and Φ = UᵀX, so Uᵀ(X − ηG) = (I + ηQC)Φ, and GᵀG = ΦᵀCQCΦ. With the polar
    retraction P₊ = (I + ηQC) Φ (I + η²ΦᵀCQCΦ)^{-1} Φᵀ (I + ηCQ), the middle of which is (I + η²PCQC)^{-1}P. Q₊ = I − P₊
    follows likewise, from (I − XXᵀ)U. Neither m nor r enters. P and Q are iterated side by side and symmetrised, which
    keeps Q accurate to its last bit however small. P, Q (..., r_A, r_A), sigma (r_A,), in any order, repeated or not.

    With `damping` the step is that of `methods.preconditioned_weight_normalization`. Θ becomes f(Θ), f(x) =
    x/(x² + λ²), and since Θ = ΦᵀΣΦ only C changes: C = Σ^{1/2} f(S) Σ^{1/2}, S = Σ^{1/2}PΣ^{1/2}. At λ = 0 this is
    P⁻¹, and η = 1 gives Q₊ = 0: recovery in one step.
    """
    xp = array_namespace(P)
    if damping is None:
        C = sigma[:, None] * P * sigma
    else:
        root = xp.sqrt(sigma)
        s, V = xp.linalg.eigh(root[:, None] * P * root)
        weights = s / (s**2 + damping**2 * reduced_error(Q, sigma)[..., None])
        C = root[:, None] * ((V * weights[..., None, :]) @ mT(V)) * root
    eye = eye_like(P)
    F, G = eta * Q @ C, eta * P @ C
    left, right = eye + F, eye - G
    inverse = xp.linalg.inv(eye + G @ F)  # one for both: (I + FG)^{-1} = I − F(I + GF)^{-1}G
    P_next = left @ (inverse @ P) @ mT(left)
    Q_next = right @ (Q - F @ inverse @ G @ Q) @ mT(right)
    return sym(P_next), sym(Q_next)


def burn_in(P, Q, sigma, eta, limit, cut=0.5):
    """Return the first step t ≤ limit at which Tr P ≥ r_A − cut, NaN where there is none: a NumPy array (draws,).

    At cut = ½ Theorem 3.2's burn-in, in population at μ = 2: `reduced_step` from P, Q = I − P (draws, r_A, r_A). An
    array of cuts gives (*cut.shape, draws). Raises ValueError unless limit >= 0.
    """
    validate.integer("limit", limit, 0)
    xp = array_namespace(P)
    cut = np.asarray(cut, dtype=float)[..., None]
    found = np.full((*cut.shape[:-1], P.shape[0]), np.nan)
    alive, t = np.arange(P.shape[0]), 0  # draws that have yet to pass a cut; the others leave every few steps
    while alive.size and t <= limit:
        traces = []
        for _ in range(min(BLOCK, limit + 1 - t)):
            traces.append(to_numpy(trace(Q)))
            P, Q = reduced_step(P, Q, sigma, eta)
        passed = np.stack(traces) <= cut[..., None]  # (*cut.shape, steps, alive)
        first = np.where(passed.any(axis=-2), t + np.argmax(passed, axis=-2), np.nan)
        found[..., alive] = np.fmin(found[..., alive], first)
        on = np.flatnonzero(np.isnan(found[..., alive]).reshape(-1, alive.size).any(axis=0))
        alive, t = alive[on], t + len(traces)
        P, Q = (xp.take(x, xp.asarray(on), axis=0) for x in (P, Q))
    return found


def reduced_error(Q, sigma):
    """Return ‖XΘXᵀ − A‖_F² = 2 tr(ΣQΣ) − tr(ΣQΣQ) for Θ = XᵀAX, from Q (..., r_A, r_A) and sigma (r_A,)."""
    S = sigma[:, None] * Q
    return 2 * trace(S * sigma) - trace(S @ S)


class Reduced(NamedTuple):
    """Weight normalization seen from A, whatever Θ is: Phi = UᵀX (..., r_A, r), Theta (..., r, r), Q = I − ΦΦᵀ."""

    Phi: Any
    Theta: Any
    Q: Any


def reduced_any_step(state, sigma, eta, mu=2.0):
    """Return the next Reduced state: one step in population, exact for every Θ and μ. Costs O(r³), whatever m is.

    −G = (I − XXᵀ)UΣΦΘ − XK with K = ½(N − Nᵀ), N = XᵀEXΘ = (Θ − ΦᵀΣΦ)Θ. So UᵀX₊ = (Φ(I − ηK) + ηQW)(I + η²(KᵀK +
    WᵀQW))^{-1/2}, W = ΣΦΘ, and Θ₊ = Θ − ½μ(Θ − Φ₊ᵀΣΦ₊). K is skew and I − ηK invertible, hence range(X₊) is that of
    X + η(I − XXᵀ)UW(I − ηK)^{-1}, and Q₊ = (I − ηB)Q(I + η²DQ)^{-1}(I − ηBᵀ) with B = ΦVᵀ, D = VVᵀ, V = W(I − ηK)^{-1}.
    At Θ = ΦᵀΣΦ and μ = 2 this is `reduced_step`.
    """
    xp = array_namespace(state.Q)
    Phi, Theta, Q = state
    SPhi = sigma[:, None] * Phi
    W = SPhi @ Theta
    N = (Theta - mT(Phi) @ SPhi) @ Theta
    K = 0.5 * (N - mT(N))
    eye = eye_like(K)
    Phi_next = (Phi - eta * Phi @ K + eta * Q @ W) @ inverse_sqrt(eye + eta**2 * (mT(K) @ K + mT(W) @ Q @ W))
    V = mT(xp.linalg.solve(mT(eye - eta * K), mT(W)))
    eye = eye_like(Q)
    right = eye - eta * Phi @ mT(V)
    half = mT(xp.linalg.solve(mT(eye + eta**2 * V @ mT(V) @ Q), Q))
    Theta_next = Theta - 0.5 * mu * (Theta - mT(Phi_next) @ (sigma[:, None] * Phi_next))
    return Reduced(Phi_next, sym(Theta_next), sym(right @ half @ mT(right)))


def reduced_any_error(state, sigma):
    """Return ‖XΘXᵀ − A‖_F² = ‖Θ − ΦᵀΣΦ‖_F² + `reduced_error` of a Reduced state: Θ's own part and the part outside."""
    Phi, Theta, Q = state
    return squared_norm(Theta - mT(Phi) @ (sigma[:, None] * Phi)) + reduced_error(Q, sigma)
