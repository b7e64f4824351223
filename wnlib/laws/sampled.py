"""Weight normalization from n Gaussian measurements: rate, stability of Θ's step, dimensions, and the noise floor."""

import math

import numpy as np

from wnlib import validate

QUADRATURE = 400  # nodes of a Gauss rule for Marchenko–Pastur's law


def degrees_of_freedom(m, r):
    """Return r(2m − r + 1)/2, the dimension of the symmetric m×m matrices of rank r."""
    validate.integer("r", r, 0, validate.integer("m", m, 1), f"at most m = {m}")
    return r * (2 * m - r + 1) // 2


def reached_dimensions(m, r, r_A):
    """Return D, the number of dimensions that XΘXᵀ reaches from A to first order while its spare directions stay.

    The tangent space of the rank-r_A matrices at A, r_A(2m − r_A + 1)/2, and, through Θ, the symmetric matrices on
    the r − r_A spare directions, (r − r_A)(r − r_A + 1)/2.
    """
    spare = r - r_A
    return degrees_of_freedom(m, r_A) + spare * (spare + 1) // 2


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
