"""The competitors that notebook *peers* races: published methods for the same problem, one step each as in methods.

Steps, states and their `estimate` are what they are there; the starts are made from those of methods.
"""

from typing import Any, NamedTuple

from wnlib import validate
from wnlib.backend import array_namespace
from wnlib.linalg import eigh, eye_like, inner, mH, quotient, squared_norm, sym
from wnlib.methods import TINY, Directed, Factored


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


class Thresholded(NamedTuple):
    """X Θ Xᵀ in eigenvectors X (..., m, r) and diagonal Theta ≥ 0, with the last direction W and M*M(W) (..., m, m)."""

    X: Any
    Theta: Any
    W: Any
    MMW: Any
    estimate = Directed.estimate


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


def asymmetric_gradient_descent(eta):
    """Return the step of gradient descent on L and R: L₊ = L − ηER, R₊ = R − ηEᵀL (Xiong, Ding, Du 2024, ICLR).

    The theory starts R at a third of L's scale: the imbalance is what makes it linear. One product with M*M a step.
    """
    eta = validate.positive("eta", eta)

    def step(state):
        L, R = state
        E = (yield state.estimate) + state.skew
        return Paired(L - eta * (E @ R), R - eta * (mH(E) @ L))

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


def iterative_hard_thresholding(eta=1.0, momentum=0.0):
    """Return the step of IHT: Z₊ = H_r(Z − ηE + momentum·(Z − Z₋)) (Jain, Meka, Dhillon 2010, NIPS).

    H_r keeps the r largest eigenvalues that are positive. One product with M*M a step. eta > 0, momentum >= 0.
    """
    eta, momentum = validate.positive("eta", eta), validate.real("momentum", momentum, 0)

    def step(state):
        Z, r = state.estimate, state.X.shape[-1]
        E = yield Z
        X, Theta = _hard_threshold(Z - eta * E + momentum * state.W, r)
        return Thresholded(X, Theta, X @ Theta @ mH(X) - Z, state.MMW)

    return step


def normalized_iterative_hard_thresholding(momentum=0.0):
    """Return the step of NIHT (Tanner, Wei 2013, SIAM J. Sci. Comput.): IHT with η = ‖G‖²/‖M(G)‖², G = P_T(E).

    P_T projects on the tangent space at Z. Two products with M*M a step: by linearity the second gives ‖M(G)‖².
    """
    momentum = validate.real("momentum", momentum, 0)

    def step(state):
        Z, X = state.estimate, state.X
        E = yield Z
        G = _tangent(X, E)
        MMG = (yield Z + G) - E
        eta = quotient(inner(G, G), inner(G, MMG), 0.0)
        X, Theta = _hard_threshold(Z - eta * E + momentum * state.W, X.shape[-1])
        return Thresholded(X, Theta, X @ Theta @ mH(X) - Z, state.MMW)

    return step


def conjugate_gradient_iterative_hard_thresholding():
    """Return the step of CGIHT (Blanchard, Tanner, Wei 2015, Inf. Inference), or RCG (Wei et al.): Z₊ = H_r(Z + αW₊).

    W₊ = G + βP_T(W) with G = −P_T(E), ⟨M(G), M(W)⟩ + β‖M(W)‖² = 0 and α = ⟨G, W₊⟩/‖M(W₊)‖². Where the paper takes
    M(P_T(W)) anew we keep M*M(W) of the last step, which saves a product. Two products with M*M a step.
    """

    def step(state):
        Z, X = state.estimate, state.X
        E = yield Z
        G = -_tangent(X, E)
        W = G - quotient(inner(G, state.MMW), inner(state.W, state.MMW), 0.0) * _tangent(X, state.W)
        MMW = (yield Z + W) - E
        X, Theta = _hard_threshold(Z + quotient(inner(G, W), inner(W, MMW), 0.0) * W, X.shape[-1])
        return Thresholded(X, Theta, W, MMW)

    return step


def gauss_newton(iterations):
    """Return the step of Gauss–Newton: Z₊ = H_r(Z + D), where D in the tangent space at Z minimises ‖M(Z + D) − y‖.

    D is found by so many iterations of conjugate gradients from 0. GNMR (Zilber, Nadler 2022, arXiv 2106.12933) and
    RISRO (Luo et al. 2024, arXiv 2011.08360) differ in how they return to rank r. With one iteration it is RGrad (Wei,
    Cai, Chan, Leung 2016, arXiv 1511.01562), taken to tomography as RGD (Hsu et al. 2024, arXiv 2210.04717).
    iterations + 1 products with M*M a step. iterations >= 1.
    """
    iterations = validate.integer("iterations", iterations, 1)

    def step(state):
        Z, X = state.estimate, state.X
        E = yield Z
        G = W = -_tangent(X, E)
        D, size = 0 * G, inner(G, G)
        for _ in range(iterations):
            H = _tangent(X, (yield Z + W) - E)  # P_T M*M(W)
            t = quotient(size, inner(W, H), 0.0)
            D, G, before = D + t * W, G - t * H, size
            size = inner(G, G)
            W = G + quotient(size, before, 0.0) * W
        return Thresholded(*_hard_threshold(Z + D, X.shape[-1]), D, state.MMW)

    return step


def _hard_threshold(Z, r):
    """The eigenvectors (..., m, r) of Z's r largest eigenvalues, and their positive parts on a diagonal."""
    xp = array_namespace(Z)
    values, vectors = eigh(Z)
    values = xp.where(values[..., -r:] < 0, xp.zeros_like(values[..., -r:]), values[..., -r:])
    return vectors[..., -r:], values[..., None] * eye_like(Z[..., :r, :r])


def _tangent(X, E):
    """The projection of E on the tangent space at XΘXᵀ: E without its part on both sides orthogonal to X."""
    EX = E @ X
    XXE = X @ mH(EX)
    return XXE + mH(XXE) - X @ (mH(X) @ EX) @ mH(X)
