"""The methods: one step each, written like the paper's algorithm.

A step is a generator. It yields the symmetric matrix Z whose residual gradient it needs and is sent back
E = M*(M(Z) − y); it returns the next state. Who answers, from which operator, for how many runs at once, is
the driver's business (see lockstep). States are fresh NamedTuples of stacks (..., ·, ·), each with its `estimate`.
"""

from typing import Any, NamedTuple

import array_api_compat.numpy

from wnlib import stiefel, validate
from wnlib.backend import array_namespace
from wnlib.linalg import eigh, eye_like, mT, squared_norm, sym

TINY = 1e-300


class Directed(NamedTuple):
    """X Θ Xᵀ: direction X (..., m, r) in the Stiefel manifold, magnitude Theta (..., r, r) symmetric."""

    X: Any
    Theta: Any

    @property
    def estimate(self):
        """XΘXᵀ (..., m, m)."""
        return self.X @ self.Theta @ mT(self.X)


class Factored(NamedTuple):
    """YYᵀ with Y (..., m, r)."""

    Y: Any

    @property
    def estimate(self):
        """YYᵀ (..., m, m)."""
        return self.Y @ mT(self.Y)


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
        return sym(self.L @ mT(self.R))

    @property
    def skew(self):
        """(LRᵀ − RLᵀ)/2 (..., m, m)."""
        LR = self.L @ mT(self.R)
        return LR - sym(LR)


class Thresholded(NamedTuple):
    """X Θ Xᵀ in eigenvectors X (..., m, r) and diagonal Theta ≥ 0, with the last direction W and M*M(W) (..., m, m)."""

    X: Any
    Theta: Any
    W: Any
    MMW: Any
    estimate = Directed.estimate


class Conjugate(NamedTuple):
    """X Θ Xᵀ as in Directed, with W (..., m, m), the best point so far, and E (..., m, m), the residual gradient at W.

    Z = XΘXᵀ only probes: it lies one trial step away from W, which need not have rank r.
    """

    X: Any
    Theta: Any
    W: Any
    E: Any
    estimate = Directed.estimate


def weight_normalization(eta, mu=2.0, retraction="polar"):
    """Return the step of weight normalization with Riemannian gradient descent (Algorithm 1).

    f(X, Θ) = ¼‖M(XΘXᵀ) − y‖²; eta is the step size on the Stiefel manifold, mu that of Θ. Two products with
    M*M a step: the second is taken at (X₊, Θ). Raises ValueError unless eta, mu > 0 and the retraction is known.
    """
    eta, mu = validate.positive("eta", eta), validate.positive("mu", mu)
    retract = validate.choice("retraction", retraction, stiefel.RETRACTIONS)

    def step(state):
        X, Theta = state
        XTheta = X @ Theta
        E = yield XTheta @ mT(X)
        G = stiefel.project(X, E @ XTheta)
        X = retract(X, -eta * G)
        E = yield X @ Theta @ mT(X)
        Theta = sym(Theta - mu * 0.5 * (mT(X) @ E @ X))
        return Directed(X, Theta)

    return step


def preconditioned_weight_normalization(eta=1.0, mu=2.0, damping=0.1):
    """Return the step of preconditioned weight normalization (PWN), an extension of Algorithm 1.

    In the step of X, Θ is replaced by Θ(Θ² + λ²I)^{-1} with λ = damping·‖E‖_F, and the part along X is dropped: in
    population, at λ = 0 and η = 1, X − G contains range(U) exactly and one step recovers A. Two products with M*M
    a step. With mu = "exact" Θ is the subject of an exact line search along its gradient, for no further product: see
    `_search_magnitude_first`; use it where μ = 2 is unstable, n < 5.83 r(r+1)/2. Raises ValueError unless
    eta, mu > 0 and damping >= 0.
    """
    eta, damping = validate.positive("eta", eta), validate.real("damping", damping, 0)
    if isinstance(mu, str) and mu == "exact":
        return _search_magnitude_first(eta, damping)
    mu = validate.real("mu", mu, 0, strict=True, why="or 'exact'")

    def step(state):
        X, Theta = state
        E = yield X @ Theta @ mT(X)
        X = stiefel.polar(X, -eta * _preconditioned(E @ X, X, Theta, damping, E))
        E = yield X @ Theta @ mT(X)
        Theta = sym(Theta - mu * 0.5 * (mT(X) @ E @ X))
        return Directed(X, Theta)

    return step


def _search_magnitude_first(eta, damping):
    """Return PWN's step with an exact line search on Θ: the same two products, Θ moving before X.

    M*M is linear, so the answers at Θ and at the trial Θ − S, S = XᵀEX, give the line's minimiser and E there. The step
    of X needs no more; Θ₊ = X₊ᵀ(XΘXᵀ − ηE)X₊ is the gradient step seen from X₊, exact in population at η = 1.
    """

    def step(state):
        X, Theta = state
        Z = X @ Theta @ mT(X)
        E = yield Z
        S = mT(X) @ E @ X
        H = E - (yield Z - X @ S @ mT(X))  # M*M(XSXᵀ)
        t = _ratio(_inner(S, S), _inner(S, mT(X) @ H @ X), 0.0)
        Theta, E = Theta - t * S, E - t * H
        T = X @ Theta @ mT(X) - eta * E
        X = stiefel.polar(X, -eta * _preconditioned(E @ X, X, Theta, damping, E))
        return Directed(X, sym(mT(X) @ T @ X))

    return step


def one_product_weight_normalization(damping=0.1):
    """Return the step of preconditioned weight normalization with one product with M*M a step (PWN1).

    Conjugate gradients on the tangent space at XΘXᵀ, with PWN's X-step as the retraction. From W, the best point so
    far, the estimate Z is a trial step; since M*M is linear, the answer at Z also gives M*M(Z − W), and with it the
    exact line search along Z − W and the conjugate direction, for no further product:

        W₊ = W + t(Z − W),  E₊ = M*(M(W₊) − y) = E + t(E_Z − E),  t minimising ‖M(W₊) − y‖
        T  = W₊ − E₊ + β(Z − W),  β making the step on the tangent space conjugate to Z − W
        X₊ = polar(X + (I − XXᵀ)TXΘ(Θ² + λ²I)^{-1}),  Θ₊ = X₊ᵀTX₊,  λ = damping·‖E₊‖_F

    In units of Gaussian measurements the error shrinks by √(D/n) a product, D = r(2m − r + 1)/2: see notebook 12. Needs
    n > D; below, PWN goes on. Raises ValueError unless damping >= 0.
    """
    damping = validate.real("damping", damping, 0)

    def step(state):
        X, Theta, W, E = state
        Z = state.estimate
        Delta, H = Z - W, (yield Z) - E  # H = M*M(Δ)
        curvature = _inner(Delta, H)
        t = _ratio(-_inner(E, Delta), curvature, 1.0)  # 1 where W = Z, as at the start: E becomes E_Z
        W, E = W + t * Delta, E + t * H
        XtE, XtH = mT(X) @ E, mT(X) @ H
        along = 2 * _inner(XtE, XtH) - _inner(XtE @ X, XtH @ X)  # ⟨P_T E, H⟩ on the tangent space T at XΘXᵀ
        T = W - E + _ratio(along, curvature, 0.0) * Delta
        X = stiefel.polar(X, _preconditioned(T @ X, X, Theta, damping, E))
        return Conjugate(X, sym(mT(X) @ T @ X), W, E)

    return step


def _preconditioned(G, X, Theta, damping, E):
    """Return (I − XXᵀ)GΘ(Θ² + λ²I)^{-1} with λ = damping·‖E‖_F."""
    theta, V = eigh(Theta)
    # TINY only keeps 0/0 away, at E = 0 with spare directions.
    weights = theta / (theta**2 + damping**2 * squared_norm(E)[..., None] + TINY)
    # Column by column: a matrix of weights formed first would mix the huge ones of spare directions into the rest.
    return ((G - X @ (mT(X) @ G)) @ V * weights[..., None, :]) @ mT(V)


def _inner(S, T):
    """Return ⟨S, T⟩ as (..., 1, 1)."""
    return array_namespace(S).sum(S * T, axis=(-2, -1), keepdims=True)


def _ratio(above, below, otherwise):
    """Return above/below where below > 0, else `otherwise`."""
    xp = array_namespace(above)
    positive = below > 0
    one = xp.ones_like(below)
    return xp.where(positive, above / xp.where(positive, below, one), otherwise * one)


def gradient_descent(eta):
    """Return the step of gradient descent on Y: Y₊ = Y − η M*(M(YYᵀ) − y) Y. One product with M*M a step."""
    eta = validate.positive("eta", eta)

    def step(state):
        (Y,) = state
        E = yield state.estimate
        return Factored(Y - eta * (E @ Y))

    return step


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
    gram = mT(Y) @ Y
    return mT(array_namespace(Y).linalg.solve(gram + damping * eye_like(gram), mT(G)))


def asymmetric_gradient_descent(eta):
    """Return the step of gradient descent on L and R: L₊ = L − ηER, R₊ = R − ηEᵀL (Xiong, Ding, Du 2024, ICLR).

    The theory starts R at a third of L's scale: the imbalance is what makes it linear. One product with M*M a step.
    """
    eta = validate.positive("eta", eta)

    def step(state):
        L, R = state
        E = (yield state.estimate) + state.skew
        return Paired(L - eta * (E @ R), R - eta * (mT(E) @ L))

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
        state = Paired(L - eta * (E @ mT(_pseudo_inverse(R))), R)
        E = (yield state.estimate) + state.skew
        return Paired(state.L, R - eta * mT(_pseudo_inverse(state.L) @ E))

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
        return Thresholded(X, Theta, X @ Theta @ mT(X) - Z, state.MMW)

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
        eta = _ratio(_inner(G, G), _inner(G, MMG), 0.0)
        X, Theta = _hard_threshold(Z - eta * E + momentum * state.W, X.shape[-1])
        return Thresholded(X, Theta, X @ Theta @ mT(X) - Z, state.MMW)

    return step


def conjugate_gradient_iterative_hard_thresholding():
    """Return the step of CGIHT (Blanchard, Tanner, Wei 2015, Inf. Inference): Z₊ = H_r(Z + αW₊).

    W₊ = G + βP_T(W) with G = −P_T(E), ⟨M(G), M(W)⟩ + β‖M(W)‖² = 0 and α = ⟨G, W₊⟩/‖M(W₊)‖². Where the paper takes
    M(P_T(W)) anew we keep M*M(W) of the last step, which saves a product. Two products with M*M a step.
    """

    def step(state):
        Z, X = state.estimate, state.X
        E = yield Z
        G = -_tangent(X, E)
        W = G - _ratio(_inner(G, state.MMW), _inner(state.W, state.MMW), 0.0) * _tangent(X, state.W)
        MMW = (yield Z + W) - E
        X, Theta = _hard_threshold(Z + _ratio(_inner(G, W), _inner(W, MMW), 0.0) * W, X.shape[-1])
        return Thresholded(X, Theta, W, MMW)

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
    XXE = X @ mT(EX)
    return XXE + mT(XXE) - X @ (mT(X) @ EX) @ mT(X)


def start_directed(m, r, rng, xp=array_api_compat.numpy):
    """Return X uniform on St(m, r) and Θ = 0, for each generator of `rng` (a Generator or a list of them)."""
    X = stiefel.random(m, r, rng, xp)
    return Directed(X, xp.zeros((*X.shape[:-2], r, r), dtype=X.dtype))


def start_conjugate(m, r, rng, xp=array_api_compat.numpy):
    """Return `start_directed` with W = 0: the start of PWN1, for each generator of `rng` (a Generator or a list)."""
    X, Theta = start_directed(m, r, rng, xp)
    W = xp.zeros((*X.shape[:-2], m, m), dtype=X.dtype)
    return Conjugate(X, Theta, W, W)


def start_factored(m, r, rng, scale=1.0, xp=array_api_compat.numpy):
    """Return Y with independent N(0, scale²/m) entries, for each generator of `rng`; scale > 0."""
    validate.integer("m", m, 1)
    validate.integer("r", r, 1, m)
    scale = validate.positive("scale", scale) / m**0.5
    if isinstance(validate.generators("rng", rng), list):
        return Factored(xp.stack([xp.asarray(scale * g.standard_normal((m, r))) for g in rng]))
    return Factored(xp.asarray(scale * rng.standard_normal((m, r))))
