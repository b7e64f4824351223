"""The methods: one step each, written like the paper's algorithm.

A step is a generator. It yields the symmetric matrix Z whose residual gradient it needs and is sent back
E = M*(M(Z) − y); it returns the next state. Who answers, from which operator, for how many runs at once, is
the driver's business (see lockstep). States are fresh NamedTuples of stacks (..., ·, ·), each with its `estimate`.
"""

from typing import Any, NamedTuple

import array_api_compat.numpy

from wnlib import stiefel, validate
from wnlib.backend import array_namespace
from wnlib.linalg import mT, squared_norm, sym

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
    a step. Raises ValueError unless eta, mu, damping > 0.
    """
    eta, mu = validate.positive("eta", eta), validate.positive("mu", mu)
    damping = validate.positive("damping", damping)

    def step(state):
        X, Theta = state
        E = yield X @ Theta @ mT(X)
        xp = array_namespace(X)
        theta, V = xp.linalg.eigh(Theta)
        # TINY only keeps 0/0 away, at E = 0 with spare directions.
        weights = theta / (theta**2 + damping**2 * squared_norm(E)[..., None] + TINY)
        D = E @ X @ (V * weights[..., None, :]) @ mT(V)
        X = stiefel.polar(X, -eta * (D - X @ (mT(X) @ D)))
        E = yield X @ Theta @ mT(X)
        Theta = sym(Theta - mu * 0.5 * (mT(X) @ E @ X))
        return Directed(X, Theta)

    return step


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


def start_factored(m, r, rng, scale=1.0, xp=array_api_compat.numpy):
    """Return Y with independent N(0, scale²/m) entries, for each generator of `rng`; scale > 0."""
    validate.integer("m", m, 1)
    validate.integer("r", r, 1, m)
    scale = validate.positive("scale", scale) / m**0.5
    if isinstance(validate.generators("rng", rng), list):
        return Factored(xp.stack([xp.asarray(scale * g.standard_normal((m, r))) for g in rng]))
    return Factored(xp.asarray(scale * rng.standard_normal((m, r))))
