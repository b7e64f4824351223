"""Competitors on factors, YYᵀ or LRᵀ: gradients, preconditioned, with momentum, Polyak's step, or one by one."""

from typing import Any, NamedTuple

from wnlib import stiefel, validate
from wnlib.backend import array_namespace
from wnlib.linalg import eigh, eye_like, inner, mH, quotient, squared_norm, sym
from wnlib.methods import TINY, Factored


class Paired(NamedTuple):
    """sym(LRᵀ) with L, R (..., m, r).

    Symmetric measurements see nothing of the skew part of LRᵀ, and A has none: the methods add it to E, as if it were
    measured; else they stall.
    """

    L: Any
    R: Any

    @property
    def estimate(self):
        """(LRᵀ + RLᵀ)/2 (..., m, m)."""
        return sym(self.L @ mH(self.R))

    @property
    def skew(self):
        """(LRᵀ − RLᵀ)/2 (..., m, m)."""
        LR = self.L @ mH(self.R)
        return LR - sym(LR)


class Extrapolated(NamedTuple):
    """YYᵀ with Y (..., m, r), and P (..., m, r), a look ahead from Y, where the gradient is taken."""

    Y: Any
    P: Any
    estimate = Factored.estimate


class Deflated(NamedTuple):
    """W (..., m, m), the sum of the eigenpairs learned so far, and X (..., m, r), where the next start, in turn."""

    W: Any
    X: Any

    @property
    def estimate(self):
        """W (..., m, m)."""
        return self.W


def scaled_gradient_descent(eta, damping):
    """Return the step of ScaledGD(λ), λ = damping: Y₊ = Y − ηEY(YᵀY + λI)^{-1} (Xu, Shen, Chi, Ma 2023, ICML).

    The theory takes λ ≈ σ_{r_A}/20 and a start of a tiny scale. One product with M*M a step. eta, damping > 0.
    """
    eta, damping = validate.positive("eta", eta), validate.positive("damping", damping)

    def step(state):
        (Y,) = state
        E = yield state.estimate
        return Factored(Y - eta * _damped_inverse(E @ Y, Y, damping))

    return step


def preconditioned_gradient_descent(eta, damping=1.0):
    """Return the step of PrecGD (Zhang, Fattahi, Zhang 2021, NeurIPS): ScaledGD with λ = damping·‖E‖_F, E as it falls.

    The paper's λ = ‖M(YYᵀ) − y‖ agrees with ‖E‖_F up to the constant factors that its theory leaves open, and E is
    what we have. One product with M*M a step. eta, damping > 0.
    """
    eta, damping = validate.positive("eta", eta), validate.positive("damping", damping)

    def step(state):
        (Y,) = state
        E = yield state.estimate
        norm = array_namespace(Y).sqrt(squared_norm(E))[..., None, None]
        return Factored(Y - eta * _damped_inverse(E @ Y, Y, damping * norm + TINY))

    return step


def _damped_inverse(G, Y, damping):
    """G (YᵀY + damping·I)^{-1}."""
    gram = mH(Y) @ Y
    return mH(array_namespace(Y).linalg.solve(gram + damping * eye_like(gram), mH(G)))


def levenberg_marquardt(eta=1.0, damping=1.0):
    """Return the step of Levenberg–Marquardt on YYᵀ (Díaz, Jiang, Labassi 2025, arXiv 2509.11486): Y₊ = Y − ηD.

    With J(D) = DYᵀ + YDᵀ, D solves (½J*J + λI)D = EY, that is D(YᵀY + λI) + YDᵀY = EY, which the eigenvectors of YᵀY
    make explicit. λ = damping·‖E‖_F falls with the loss, as the paper's; η is constant where the paper takes Polyak's.
    One product with M*M a step. eta, damping > 0.
    """
    eta, damping = validate.positive("eta", eta), validate.positive("damping", damping)

    def step(state):
        (Y,) = state
        E = yield state.estimate
        s, V = eigh(mH(Y) @ Y)
        R, s = Y @ V, s[..., None, :]
        lam = damping * array_namespace(Y).sqrt(squared_norm(E))[..., None, None] + TINY
        ER = E @ R
        D = (ER - R @ ((mH(R) @ ER) / (s + mH(s) + lam))) / (s + lam)
        return Factored(Y - eta * D @ mH(V))

    return step


def polyak_gradient_descent(eta, loss, period):
    """Return the step of GDPolyak (Davis, Drusvyatskiy, Jiang 2024, arXiv 2409.19791): `period` of GD's, then Polyak's.

    That is Y₊ = Y − f/‖∇f‖²·∇f, f = ¼‖M(YYᵀ) − y‖² and ∇f = EY: f's least value, 0, must be known. loss(Z, E) gives
    ‖M(Z) − y‖² (..., 1, 1): ⟨Z, E − b⟩ + c from b = M*(y) and c = ‖y‖²; or, for y = M(A), ⟨Z − A, E⟩, which keeps its
    digits as it falls. period + 1 products with M*M a step. eta > 0, period >= 1.
    """
    eta, period = validate.positive("eta", eta), validate.integer("period", period, 1)

    def step(state):
        (Y,) = state
        for _ in range(period):
            Y = Y - eta * ((yield Y @ mH(Y)) @ Y)
        Z = Y @ mH(Y)
        E = yield Z
        G = E @ Y
        return Factored(Y - quotient(loss(Z, E), 4 * inner(G, G), 0.0) * G)

    return step


def momentum_gradient_descent(eta, momentum):
    """Return the step of MiFGD: Y₊ = P − ηE(PPᵀ)P, P₊ = Y₊ + momentum·(Y₊ − Y) (Kim et al. 2023, arXiv 2104.07006).

    One product with M*M a step. eta > 0, momentum >= 0.
    """
    eta, momentum = validate.positive("eta", eta), validate.real("momentum", momentum, 0)

    def step(state):
        Y, P = state
        E = yield P @ mH(P)
        ahead = P - eta * (E @ P)
        return Extrapolated(ahead, ahead + momentum * (ahead - Y))

    return step


def recursive_weight_normalization(eta, period, mu=2.0):
    """Return our reading of recursive DMD (arXiv 2606.31390, whose abstract we have): W₊ = W + θxxᵀ, one pair a step.

    The pair is learned by `period` steps of weight normalization at r = 1 on what W leaves, from a column of X.
    2·period products with M*M a step. eta, mu > 0, period >= 1.
    """
    eta, mu, period = validate.positive("eta", eta), validate.positive("mu", mu), validate.integer("period", period, 1)

    def step(state):
        W, X = state
        x, theta = X[..., :1], 0 * W[..., :1, :1]
        for _ in range(period):
            E = yield W + x @ theta @ mH(x)
            x = stiefel.polar(x, -eta * stiefel.project(x, E @ x @ theta))
            E = yield W + x @ theta @ mH(x)
            theta = theta - mu * 0.5 * (mH(x) @ E @ x)
        return Deflated(W + x @ theta @ mH(x), array_namespace(X).roll(X, -1, axis=-1))

    return step


def approximate_gauss_newton(eta=1.0):
    """Return the step of AGN (Jia, Feng, Meng, Sun 2024, NeurIPS), or APGD (Liu et al. 2025, arXiv 2502.00463).

    L₊ = L − ηE(R⁺)ᵀ, then R₊ = R − ηEᵀ(L₊⁺)ᵀ with E retaken at (L₊, R); ⁺ is the pseudo-inverse. One step
    recovers A in population at η = 1. Two products with M*M a step. eta > 0.
    """
    eta = validate.positive("eta", eta)

    def step(state):
        L, R = state
        E = (yield state.estimate) + state.skew
        state = Paired(L - eta * (E @ mH(_pseudo_inverse(R))), R)
        E = (yield state.estimate) + state.skew
        return Paired(state.L, R - eta * mH(_pseudo_inverse(state.L) @ E))

    return step


def _pseudo_inverse(L):
    xp = array_namespace(L)
    return xp.linalg.pinv(xp.where(xp.isfinite(L), L, xp.zeros_like(L)))  # E is NaN where L is; LAPACK would raise
