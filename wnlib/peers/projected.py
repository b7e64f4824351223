"""Competitors on the matrix itself, brought back to low rank by its eigenvalues: thresholding, and messages."""

from typing import Any, NamedTuple

from wnlib import validate
from wnlib.backend import array_namespace
from wnlib.linalg import eigh, eye_like, inner, mH, quotient, tangent
from wnlib.methods import Directed

SEMICIRCLE_MEDIAN = 0.40397275  # of |λ|, for eigenvalues that fill [−1, 1] as a semicircle


class Thresholded(NamedTuple):
    """X Θ Xᵀ in eigenvectors X (..., m, r) and diagonal Theta ≥ 0, with the last direction W and M*M(W) (..., m, m)."""

    X: Any
    Theta: Any
    W: Any
    MMW: Any
    estimate = Directed.estimate


class Passed(NamedTuple):
    """Z (..., m, m), symmetric, the message R (..., m, m) it came with, and b (..., 1, 1), how much of R returns."""

    Z: Any
    R: Any
    b: Any

    @property
    def estimate(self):
        """Z (..., m, m)."""
        return self.Z


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
        G = tangent(X, E)
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
        G = -tangent(X, E)
        W = G - quotient(inner(G, state.MMW), inner(state.W, state.MMW), 0.0) * tangent(X, state.W)
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
        G = W = -tangent(X, E)
        D, size = 0 * G, inner(G, G)
        for _ in range(iterations):
            H = tangent(X, (yield Z + W) - E)  # P_T M*M(W)
            t = quotient(size, inner(W, H), 0.0)
            D, G, before = D + t * W, G - t * H, size
            size = inner(G, G)
            W = G + quotient(size, before, 0.0) * W
        return Thresholded(*_hard_threshold(Z + D, X.shape[-1]), D, state.MMW)

    return step


def approximate_message_passing(measurements):
    """Return the step of AMP with optimal shrinkage (Romanov, Gavish 2018, PNAS, arXiv 1705.09958), here for A ⪰ 0.

    Z₊ = f(V), V = Z + R: for n Gaussian measurements V is A and noise of semicircular spectrum, whose edge c is read
    off V's median |λ|, and f takes each eigenvalue to √(λ² − c²), or 0 up to c: the least error for large real m. R =
    bR₋ − E, where b = div f/n at the last V keeps the noise Gaussian. It is told n, no rank and no step size, and is
    not meant for other operators. One product with M*M a step. measurements >= 1.
    """
    n = validate.integer("measurements", measurements, 1)

    def step(state):
        Z, R, b = state
        R = b * R - (yield Z)
        xp = array_namespace(R)
        values, X = eigh(Z + R)
        values = values[..., None, :]
        c = xp.sort(xp.abs(values), axis=-1)[..., R.shape[-1] // 2][..., None] / SEMICIRCLE_MEDIAN
        f = xp.sqrt(xp.where(values > c, values**2 - c**2, xp.zeros_like(values)))
        gap, both = xp.abs(values - mH(values)), (f > 0) & (mH(f) > 0)
        slopes = xp.where(both, quotient(values + mH(values), f + mH(f), 0.0), quotient(xp.abs(f - mH(f)), gap, 0.0))
        div = 0.5 * (xp.sum(slopes, axis=(-2, -1)) + xp.linalg.trace(slopes))  # each pair once, and the diagonal
        return Passed(X * f @ mH(X), R, div[..., None, None] / n)

    return step


def _hard_threshold(Z, r):
    """The eigenvectors (..., m, r) of Z's r largest eigenvalues, and their positive parts on a diagonal."""
    xp = array_namespace(Z)
    values, vectors = eigh(Z)
    values = xp.where(values[..., -r:] < 0, xp.zeros_like(values[..., -r:]), values[..., -r:])
    return vectors[..., -r:], values[..., None] * eye_like(Z[..., :r, :r])
