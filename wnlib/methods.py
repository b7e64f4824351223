"""The methods: one step each, written like the paper's algorithm.

A step is a generator. It yields the symmetric matrix Z whose residual gradient it needs and is sent back
E = M*(M(Z) − y); it returns the next state. Who answers, from which operator, for how many runs at once, is
the driver's business (see lockstep). States are fresh NamedTuples of stacks (..., ·, ·), each with its `estimate`.
"""

from typing import Any, NamedTuple

import array_api_compat.numpy

from wnlib import stiefel, validate
from wnlib.backend import drawn
from wnlib.linalg import eigh, inner, mH, quotient, squared_norm, sym

TINY = 1e-300


class Directed(NamedTuple):
    """X Θ Xᵀ: direction X (..., m, r) in the Stiefel manifold, magnitude Theta (..., r, r) symmetric."""

    X: Any
    Theta: Any

    @property
    def estimate(self):
        """XΘXᵀ (..., m, m)."""
        return self.X @ self.Theta @ mH(self.X)


class Factored(NamedTuple):
    """YYᵀ with Y (..., m, r)."""

    Y: Any

    @property
    def estimate(self):
        """YYᵀ (..., m, m)."""
        return self.Y @ mH(self.Y)


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
        E = yield XTheta @ mH(X)
        G = stiefel.project(X, E @ XTheta)
        X = retract(X, -eta * G)
        E = yield X @ Theta @ mH(X)
        Theta = sym(Theta - mu * 0.5 * (mH(X) @ E @ X))
        return Directed(X, Theta)

    return step


def preconditioned_weight_normalization(eta=1.0, mu=2.0, damping=0.1):
    """Return the step of preconditioned weight normalization (PWN), an extension of Algorithm 1.

    In the step of X, Θ is replaced by Θ(Θ² + λ²I)^{-1} with λ = damping·‖E‖_F, and the part along X is dropped. In
    population, at η = 1 and Θ = XᵀAX, it converges from every X with rank UᵀX = r_A, whatever the damping, and at λ = 0
    in one step (notebook *preconditioned_wn* has the proof; for n measurements there is none). Two products with M*M a
    step. With mu = "exact" Θ is the subject of an exact line search along its gradient, for no further product: see
    `_search_magnitude_first`; use it where μ = 2 is unstable, n < 5.83 r(r+1)/2. Raises ValueError unless
    eta, mu > 0 and damping >= 0.
    """
    eta, damping = validate.positive("eta", eta), validate.real("damping", damping, 0)
    if isinstance(mu, str) and mu == "exact":
        return _search_magnitude_first(eta, damping)
    mu = validate.real("mu", mu, 0, strict=True, why="or 'exact'")

    def step(state):
        X, Theta = state
        E = yield X @ Theta @ mH(X)
        X = stiefel.polar(X, -eta * _preconditioned(E @ X, X, Theta, damping, E))
        E = yield X @ Theta @ mH(X)
        Theta = sym(Theta - mu * 0.5 * (mH(X) @ E @ X))
        return Directed(X, Theta)

    return step


def _search_magnitude_first(eta, damping):
    """Return PWN's step with an exact line search on Θ: the same two products, Θ moving before X.

    M*M is linear, so the answers at Θ and at the trial Θ − S, S = XᵀEX, give the line's minimiser and E there. The step
    of X needs no more; Θ₊ = X₊ᵀ(XΘXᵀ − ηE)X₊ is the gradient step seen from X₊, exact in population at η = 1.
    """

    def step(state):
        X, Theta = state
        Z = X @ Theta @ mH(X)
        E = yield Z
        S = mH(X) @ E @ X
        H = E - (yield Z - X @ S @ mH(X))  # M*M(XSXᵀ)
        t = quotient(inner(S, S), inner(S, mH(X) @ H @ X), 0.0)
        Theta, E = Theta - t * S, E - t * H
        T = X @ Theta @ mH(X) - eta * E
        X = stiefel.polar(X, -eta * _preconditioned(E @ X, X, Theta, damping, E))
        return Directed(X, sym(mH(X) @ T @ X))

    return step


def one_product_weight_normalization(damping=0.1):
    """Return the step of preconditioned weight normalization with one product with M*M a step (PWN1).

    Conjugate gradients on the tangent space at XΘXᵀ, with PWN's X-step as the retraction. From W, the best point so
    far, the estimate Z is a trial step; since M*M is linear, the answer at Z also gives M*M(Z − W), and with it the
    exact line search along Z − W and the conjugate direction, for no further product:

        W₊ = W + t(Z − W),  E₊ = M*(M(W₊) − y) = E + t(E_Z − E),  t minimising ‖M(W₊) − y‖
        T  = W₊ − E₊ + β(Z − W),  β making the step on the tangent space conjugate to Z − W
        X₊ = polar(X + (I − XXᵀ)TXΘ(Θ² + λ²I)^{-1}),  Θ₊ = X₊ᵀTX₊,  λ = damping·‖E₊‖_F

    With n Gaussian measurements theory gives √(D/n) a product, D = r(2m − r + 1)/2, in the limit of many products and
    with all D dimensions taking part; damping holds some back, and the error falls faster: see notebook
    *preconditioned_wn*. From about n = D down it fails where PWN may still recover A. Raises ValueError unless
    damping >= 0.
    """
    damping = validate.real("damping", damping, 0)

    def step(state):
        X, Theta, W, E = state
        Z = state.estimate
        Delta, H = Z - W, (yield Z) - E  # H = M*M(Δ)
        curvature = inner(Delta, H)
        t = quotient(-inner(E, Delta), curvature, 1.0)  # 1 where W = Z, as at the start: E becomes E_Z
        W, E = W + t * Delta, E + t * H
        XtE, XtH = mH(X) @ E, mH(X) @ H
        along = 2 * inner(XtE, XtH) - inner(XtE @ X, XtH @ X)  # ⟨P_T E, H⟩ on the tangent space T at XΘXᵀ
        T = W - E + quotient(along, curvature, 0.0) * Delta
        X = stiefel.polar(X, _preconditioned(T @ X, X, Theta, damping, E))
        return Conjugate(X, sym(mH(X) @ T @ X), W, E)

    return step


def _preconditioned(G, X, Theta, damping, E):
    """Return (I − XXᵀ)GΘ(Θ² + λ²I)^{-1} with λ = damping·‖E‖_F."""
    theta, V = eigh(Theta)
    # TINY only keeps 0/0 away, at E = 0 with spare directions.
    weights = theta / (theta**2 + damping**2 * squared_norm(E)[..., None] + TINY)
    # Column by column: a matrix of weights formed first would mix the huge ones of spare directions into the rest.
    return ((G - X @ (mH(X) @ G)) @ V * weights[..., None, :]) @ mH(V)


def gradient_descent(eta):
    """Return the step of gradient descent on Y: Y₊ = Y − η M*(M(YYᵀ) − y) Y. One product with M*M a step."""
    eta = validate.positive("eta", eta)

    def step(state):
        (Y,) = state
        E = yield state.estimate
        return Factored(Y - eta * (E @ Y))

    return step


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
    return Factored(drawn(validate.generators("rng", rng), xp, lambda g: scale * g.standard_normal((m, r))))
