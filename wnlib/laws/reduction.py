"""The exact reduction: in population the dynamics close on matrices of size r_A (μ = 2), or r (any μ).

P = UᵀXXᵀU and Q = I − P as in population; neither m nor r enters their recursion.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy.special

from wnlib import backend, validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import eye_like, inverse_sqrt, mT, squared_norm, sym, trace

BLOCK = 16  # steps between looks at which draws are through


def random_alignment(m, r, r_A, draws, rng):
    """Return P_0 (draws, r_A, r_A) and Q_0 = I − P_0 for X_0 uniform on St(m, r): matrix-variate Beta(r/2, (m − r)/2).

    UᵀX_0X_0ᵀU has the law of (W + V)^{-1/2} W (W + V)^{-1/2} with W, V independent Wishart matrices of r and m − r
    degrees of freedom, each drawn as LLᵀ from its Bartlett factor (a trapezium, for fewer degrees than r_A): the cost
    does not depend on m. For m − r < r_A, r_A − (m − r) directions are found from the start. NumPy. Raises ValueError
    unless r_A <= r <= m.
    """
    validate.integer("r", r, validate.integer("r_A", r_A, 1), validate.integer("m", m, 1), "r_A <= r <= m")
    validate.integer("draws", draws, 1)
    nbytes = 8 * 8 * r_A**2  # of a draw: eight matrices at a time
    backend.require_memory(
        nbytes * draws, f"random alignment with draws = {draws}", lambda free: f"draws = {free // nbytes} would fit", np
    )

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
    keeps Q accurate in norm however small it is (to about 1e-13 after 500 steps); its small entries have no such
    accuracy. P, Q (..., r_A, r_A), sigma (r_A,), in any order, repeated or not.

    With `damping` the step is that of `methods.preconditioned_weight_normalization`. Θ becomes f(Θ), f(x) =
    x/(x² + λ²), and since Θ = ΦᵀΣΦ only C changes: C = Σ^{1/2} f(S) Σ^{1/2}, S = Σ^{1/2}PΣ^{1/2}. At λ = 0 this is
    P⁻¹, and η = 1 gives Q₊ = 0: recovery in one step.
    """
    xp = array_namespace(P)
    if damping is None:
        C = eta * sigma[:, None] * sigma * P  # with η, here and below
    else:
        root = xp.sqrt(sigma)
        s, V = xp.linalg.eigh(root[:, None] * P * root)
        weights = eta * s / (s**2 + damping**2 * reduced_error(Q, sigma)[..., None])
        C = root[:, None] * ((V * weights[..., None, :]) @ mT(V)) * root
    eye = eye_like(P)
    F, G = Q @ C, P @ C
    middle = xp.linalg.solve(eye + G @ F, P)  # (I + PCQC)^{-1}P, symmetric: one for both, by Woodbury's formula
    half = F @ middle
    both = half @ mT(F)
    right = eye - G
    return sym(middle + half + mT(half) + both), sym(right @ (Q - both) @ mT(right))


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


def tangents_step(R, sigma, eta, damping=None):
    """Return R₊ = HRH (..., r_A, r_A) for R = P⁻¹ − I, the squared tangents of the angles between U and range(X).

    One step of weight normalization in population at μ = 2: H = I − η(C⁻¹ + ηQ)⁻¹ with C = ΣPΣ and P = (I + R)⁻¹,
    for `sigma` (r_A,) of any signs. With `damping` = λ > 0, a number or (...), the step of the preconditioned method at
    η = 1 whatever `eta`, A ⪰ 0: H = (I + ΣPΣ/λ²)⁻¹. Proofs in notebooks two_phases and preconditioned_wn.
    """
    xp = array_namespace(R)
    eye = eye_like(R)
    P = xp.linalg.inv(eye + R)
    C = sigma[:, None] * P * sigma
    if damping is None:
        H = eye - eta * xp.linalg.inv(xp.linalg.inv(C) + eta * (eye - P))
    else:
        H = xp.linalg.inv(eye + C / xp.asarray(damping)[..., None, None] ** 2)
    return sym(H @ R @ H)


def tangent_bound(t, rho_0, sigma, eta):
    """Return an upper bound on R's largest eigenvalue at step t, from rho_0 > 0 at step 0: both phases in one line.

    ρ_t + ln ρ_t ≤ ρ_0 + ln ρ_0 − 2x'(1 − x'/16)t with x' = x/(1 + x/4), x = ησ_min²; for every spectrum `sigma` (r_A,)
    and 0 < η ≤ 1/σ_max². Solved for ρ_t by Wright's omega function. Broadcasts t with rho_0. Proof in notebook
    two_phases. Raises ValueError for a larger η.
    """
    rho_0 = np.asarray(rho_0, dtype=float)
    return scipy.special.wrightomega(rho_0 + np.log(rho_0) - _fall(sigma, eta) * np.asarray(t, dtype=float))


def burn_in_bound(rho_0, sigma, eta, rho=1.0):
    """Return a number of steps after which R's largest eigenvalue is at most rho; rho_0 as in tangent_bound.

    [ρ_0 − ρ + ln(ρ_0/ρ)]/(2x'(1 − x'/16)) for ρ_0 > ρ, else 0. At rho = 1 no angle between U and range(X) is above
    45°. Theorem 3.2's burn-in, Tr P >= r_A − ½, ends no sooner than that, and at rho = 1/(2r_A − 1) at the latest.
    """
    rho_0 = np.asarray(rho_0, dtype=float)
    return np.maximum(rho_0 - rho + np.log(rho_0 / rho), 0) / _fall(sigma, eta)


def _fall(sigma, eta):
    """2x'(1 − x'/16): by how much ρ + ln ρ falls in a step, at least."""
    size = np.abs(to_numpy(sigma))
    if not 0 < eta * np.max(size) ** 2 <= 1 + 1e-12:
        raise ValueError(
            f"eta = {eta:g}: must be > 0 and at most 1/σ_max² = {np.max(size) ** -2.0:g}, where the bound holds"
        )
    x = eta * np.min(size) ** 2
    x = x / (1 + x / 4)
    return 2 * x * (1 - x / 16)
