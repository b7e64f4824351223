"""Weight normalization from n Gaussian measurements: rate, stability of Θ's step, dimensions, and the noise floor."""

import math

import numpy as np

from wnlib import linalg, validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import svec

QUADRATURE = 400  # nodes of a Gauss rule for Marchenko–Pastur's law


def degrees_of_freedom(m, r):
    """Return r(2m − r + 1)/2, the dimension of the symmetric m×m matrices of rank r."""
    validate.integer("r", r, 0, validate.integer("m", m, 1), f"at most m = {m}")
    return linalg.degrees_of_freedom(m, m, r, True)


def reached_dimensions(m, r, r_A):
    """Return D, the number of dimensions that XΘXᵀ reaches from A to first order while its spare directions stay.

    The tangent space of the rank-r_A matrices at A, r_A(2m − r_A + 1)/2, and, through Θ, the symmetric matrices on
    the r − r_A spare directions, (r − r_A)(r − r_A + 1)/2.
    """
    spare = r - r_A
    return degrees_of_freedom(m, r_A) + spare * (spare + 1) // 2


def sampled_decay(t, m, r, r_A, n, sigma, eta):
    """Return by which factor the error in the linear phase has shrunk t steps into it, from n Gaussian measurements.

    The Gaussian corollary of `local_rate`, for sigma = σ_{r_A} and κ large enough that all else is faster, where Θ's
    step is stable and n ≳ 4(F + k). The slow error is a vector e in k = m − r dimensions, the weakest eigenvector's
    way out of range(X). The other F = r(r + 1)/2 + (r_A − 1)(m − r) dimensions move so much faster that they are at
    each step what least squares makes of them, given e. What is left of M*M for e is S, its block with the fast ones
    eliminated (their Schur complement), so that e₊ = (I − ησ²S)e; nS is Wishart with n − F degrees of freedom.
    Averaged over its Marchenko–Pastur law on (√(1 − F/n) ± √(k/n))², e shrinks as the root of ∫(1 − ησ²λ)^{2t} dλ: at
    first by 1 − ησ²(1 − F/n) a step, in the end by the lower edge's factor, and by 1 − ησ² for n = ∞. To leading order
    in ησ². t is a number or an array. Raises ValueError unless n > F + k (fewer measurements than that do not
    determine A near A).
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


def local_rate(operator, U, sigma, X, eta, mu=2.0):
    """Return the factor (*stack) by which weight normalization's error shrinks a step near A, for any operator M.

    For U (*stack, m, r_A), sigma (r_A,) and X (*stack, m, r) with range(X) ⊇ range(U), up to the error. To first order
    in it XΘXᵀ − A has coordinates c_ji on p_j u_iᵀ + u_i p_jᵀ, p_j ⟂ range(X), and t_ij on Sym(r) in the basis of Θ's
    eigenvectors, eigenvalues θ = (σ, 0, …, 0). With res = M*(M(XΘXᵀ) − y) in the same coordinates a step is
    c_ji ← c_ji − ησ_i² res_ji and, X turning within its range, t_ij ← t_ij − (η/2)(θ_i − θ_j)² res_ij; then, at the new
    (c, t), t ← t − (μ/2) res. The spectral radius of their product is the factor, while the spare directions stay where
    they are: they drift at second order. Proof in notebook finite_samples. One pass over M for each of
    (m − r)r_A + r(r + 1)/2 matrices.
    """
    xp, stack = array_namespace(X), tuple(X.shape[:-2])
    m, r = X.shape[-2:]
    lead = (-1, m)
    U, X = to_numpy(U).reshape(*lead, U.shape[-1]), to_numpy(X).reshape(*lead, r)
    theta = np.concatenate([to_numpy(sigma), np.zeros(r - U.shape[-1])])
    bases = np.stack([_tangent_basis(*pair) for pair in zip(U, X, strict=True)])
    (images,) = operator.normal(xp.asarray(bases.reshape(*stack, *bases.shape[1:])))
    H = svec(bases) @ np.swapaxes(svec(to_numpy(images).reshape(bases.shape)), -1, -2)
    i, j = np.triu_indices(r)
    found = np.repeat(theta[: U.shape[-1]] ** 2, m - r)
    first = np.concatenate([eta * found, 0.5 * eta * (theta[i] - theta[j]) ** 2])
    second = np.concatenate([np.zeros(found.size), np.full(i.size, 0.5 * mu)])
    eye = np.eye(first.size)
    step = (eye - second[:, None] * H) @ (eye - first[:, None] * H)
    return np.max(np.abs(np.linalg.eigvals(step)), axis=-1).reshape(stack)


def _tangent_basis(U, X):
    """Orthonormal matrices (K, m, m): p uᵀ + u pᵀ for p ⟂ X, the u in turn, then Sym(r) on range(X), U first."""
    (m, r), r_A = X.shape, U.shape[1]
    spare = np.linalg.svd(X - U @ (U.T @ X))[0][:, : r - r_A]
    frame = np.linalg.qr(np.concatenate([U, spare], axis=1), mode="complete")[0]  # of range(X), then of the rest
    u, p = np.divmod(np.arange(r_A * (m - r)), m - r)
    i, j = np.concatenate([[u, r + p], np.triu_indices(r)], axis=1)
    outer = np.einsum("ak,bk->kab", frame[:, i], frame[:, j])
    both = outer + np.swapaxes(outer, -1, -2)
    return both / np.sqrt(np.sum(both**2, axis=(-2, -1), keepdims=True))
