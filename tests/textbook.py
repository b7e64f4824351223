"""The paper's algorithms written out with full matrices and loops: slow, plain, and sharing no code with wnlib."""

import numpy as np
import scipy.linalg
import scipy.optimize


def matrices(operator_matrix, m):
    """The symmetric M_i (n, m, m) whose inner products the rows of an n×d svec matrix take."""
    Ms = []
    for row in operator_matrix:
        M, k = np.zeros((m, m)), 0
        for i in range(m):
            for j in range(i, m):
                M[i, j] = M[j, i] = row[k] if i == j else row[k] / np.sqrt(2)
                k += 1
        Ms.append(M)
    return np.array(Ms)


def orthonormality_error(X):
    """‖XᴴX − I‖_F of every X (..., m, r), as (...)."""
    gram = np.conj(np.swapaxes(X, -1, -2)) @ X
    return np.linalg.norm(gram - np.eye(X.shape[-1]), axis=(-2, -1))


def residual_gradient(Ms, Z, y):
    """Σ_i (⟨M_i, Z⟩ − y_i) M_i."""
    return np.einsum("i,ijk->jk", np.einsum("ijk,jk->i", Ms, Z) - y, Ms)


def weight_normalization(Ms, y, X, Theta, eta, mu, steps):
    """Algorithm 1 with the polar retraction in the paper's own formula."""
    m, r = X.shape
    for _ in range(steps):
        G = residual_gradient(Ms, X @ Theta @ X.T, y) @ X @ Theta
        G = (np.eye(m) - X @ X.T) @ G + 0.5 * X @ (X.T @ G - G.T @ X)
        X = (X - eta * G) @ np.linalg.inv(scipy.linalg.sqrtm(np.eye(r) + eta**2 * G.T @ G).real)
        Theta = Theta - mu / 2 * X.T @ residual_gradient(Ms, X @ Theta @ X.T, y) @ X
    return X, Theta


def recursive_weight_normalization(Ms, y, X, eta, mu, period, steps):
    """One eigenpair at a time: `period` steps at r = 1 on the data that the pairs so far leave, from X's columns."""
    Z = np.zeros((X.shape[0], X.shape[0]))
    for k in range(steps):
        left = y - np.einsum("ijk,jk->i", Ms, Z)
        x, theta = weight_normalization(Ms, left, X[:, k % X.shape[1]][:, None], np.zeros((1, 1)), eta, mu, period)
        Z = Z + x @ theta @ x.T
    return Z


def gradient_descent(Ms, y, Y, eta, steps):
    """Y₊ = Y − η M*(M(YYᵀ) − y) Y."""
    for _ in range(steps):
        Y = Y - eta * residual_gradient(Ms, Y @ Y.T, y) @ Y
    return Y


def with_skew(Ms):
    """The M_i, and after them an orthonormal basis of the skew matrices: measurements of a symmetric A that give 0."""
    m = Ms.shape[-1]
    skew = np.zeros((m * (m - 1) // 2, m, m))
    i, j = np.tril_indices(m, -1)
    k = np.arange(len(skew))
    skew[k, i, j], skew[k, j, i] = np.sqrt(0.5), -np.sqrt(0.5)
    return np.concatenate([Ms, skew])


def scaled_gradient_descent(Ms, y, Y, eta, damping, steps):
    """ScaledGD(λ): Y₊ = Y − ηEY(YᵀY + λI)^{-1}; a function `damping` of E gives λ anew at each step (PrecGD)."""
    for _ in range(steps):
        E = residual_gradient(Ms, Y @ Y.T, y)
        lam = damping(E) if callable(damping) else damping
        Y = Y - eta * E @ Y @ np.linalg.inv(Y.T @ Y + lam * np.eye(Y.shape[1]))
    return Y


def levenberg_marquardt(Ms, y, Y, eta, damping, steps):
    """Y₊ = Y − ηD, (½JᵀJ + λI) vec D = vec EY, λ = damping·‖E‖, J the Jacobian of Y ↦ YYᵀ as a matrix."""
    for _ in range(steps):
        E = residual_gradient(Ms, Y @ Y.T, y)
        units = np.eye(Y.size).reshape(-1, *Y.shape)
        J = np.stack([(D @ Y.T + Y @ D.T).ravel() for D in units], axis=1)
        system = 0.5 * J.T @ J + damping * np.linalg.norm(E) * np.eye(Y.size)
        Y = Y - eta * np.linalg.solve(system, (E @ Y).ravel()).reshape(Y.shape)
    return Y


def polyak_gradient_descent(Ms, y, Y, eta, period, steps):
    """GDPolyak: `period` steps of size η, then one of size f/‖∇f‖²; f = ¼‖M(YYᵀ) − y‖², and 0 at its least."""
    for k in range(steps * (period + 1)):
        gradient = residual_gradient(Ms, Y @ Y.T, y) @ Y
        f = 0.25 * np.sum((np.einsum("ijk,jk->i", Ms, Y @ Y.T) - y) ** 2)
        Y = Y - (eta if (k + 1) % (period + 1) else f / np.sum(gradient**2)) * gradient
    return Y


def momentum_gradient_descent(Ms, y, Y, P, eta, momentum, steps):
    """MiFGD: Y₊ = P − ηE(P)P, P₊ = Y₊ + momentum·(Y₊ − Y)."""
    for _ in range(steps):
        before, Y = Y, P - eta * residual_gradient(Ms, P @ P.T, y) @ P
        P = Y + momentum * (Y - before)
    return Y


def approximate_gauss_newton(Ms, y, L, R, eta, steps):
    """AGN: L moves by the least-norm solution D of DRᵀ ≈ E, then R likewise, E retaken; any M_i, symmetric or not."""
    for _ in range(steps):
        L = L - eta * scipy.linalg.lstsq(R, residual_gradient(Ms, L @ R.T, y).T)[0].T
        R = R - eta * scipy.linalg.lstsq(L, residual_gradient(Ms, L @ R.T, y))[0].T
    return L, R


def hard_threshold(Z, r):
    """The nearest positive semidefinite matrix of rank at most r, and the r leading eigenvectors."""
    values, vectors = scipy.linalg.eigh(Z)
    leading = [k for k in np.argsort(values)[::-1][:r] if values[k] > 0]
    return sum((values[k] * np.outer(vectors[:, k], vectors[:, k]) for k in leading), 0 * Z), vectors[:, -r:]


def project_on_tangent_space(X, E):
    """E − (I − XXᵀ) E (I − XXᵀ)."""
    outside = np.eye(len(X)) - X @ X.T
    return E - outside @ E @ outside


def iterative_hard_thresholding(Ms, y, X, eta, momentum, steps):
    """IHT from Z = 0; eta = None takes NIHT's, exact along the gradient projected on the tangent space."""
    r, Z = X.shape[1], np.zeros((len(X), len(X)))
    before = Z
    for _ in range(steps):
        E = residual_gradient(Ms, Z, y)
        G = project_on_tangent_space(X, E)
        step = eta or np.sum(G**2) / np.sum(np.einsum("ijk,jk->i", Ms, G) ** 2)
        (Z, X), before = hard_threshold(Z - step * E + momentum * (Z - before), r), Z
    return Z


def conjugate_gradient_iterative_hard_thresholding(Ms, y, X, steps):
    """CGIHT from Z = 0, the conjugacy in the space of measurements."""
    r, Z = X.shape[1], np.zeros((len(X), len(X)))
    W, MW = Z, np.zeros(len(y))
    for step in range(steps):
        G = -project_on_tangent_space(X, residual_gradient(Ms, Z, y))
        beta = -np.einsum("ijk,jk->i", Ms, G) @ MW / (MW @ MW) if step else 0.0
        W = G + beta * project_on_tangent_space(X, W)
        MW = np.einsum("ijk,jk->i", Ms, W)
        Z, X = hard_threshold(Z + np.sum(G * W) / (MW @ MW) * W, r)
    return Z


def gauss_newton(Ms, y, X, iterations, steps):
    """From Z = 0: the D that fits y − M(Z) best in a Krylov space of the tangent space, by dense least squares."""
    r, Z = X.shape[1], np.zeros((len(X), len(X)))
    measure = lambda Z: np.einsum("ijk,jk->i", Ms, Z)  # noqa: E731
    for _ in range(steps):
        krylov = [project_on_tangent_space(X, residual_gradient(Ms, Z, y))]
        while len(krylov) < iterations:
            krylov.append(project_on_tangent_space(X, np.einsum("i,ijk->jk", measure(krylov[-1]), Ms)))
        columns = np.stack([measure(D) for D in krylov], axis=1)
        weights = np.linalg.lstsq(columns, y - measure(Z), rcond=None)[0]
        Z, X = hard_threshold(Z + np.einsum("i,ijk->jk", weights, np.array(krylov)), r)
    return Z


def riemannian_gradient_descent(Ms, y, X, steps):
    """RGrad from Z = 0: Z₊ = H_r(Z − tG), G = P_T(E), t = ‖G‖²/‖M(G)‖²."""
    r, Z = X.shape[1], np.zeros((len(X), len(X)))
    for _ in range(steps):
        G = project_on_tangent_space(X, residual_gradient(Ms, Z, y))
        Z, X = hard_threshold(Z - np.sum(G**2) / np.sum(np.einsum("ijk,jk->i", Ms, G) ** 2) * G, r)
    return Z


def shrunk(V):
    """Eigenvalues λ beyond the noise's edge c, that of a semicircle with V's median |λ|, become √(λ² − c²)."""
    values, X = np.linalg.eigh(V)
    half = lambda t: 2 / np.pi * (t * np.sqrt(1 - t * t) + np.arcsin(t)) - 0.5  # noqa: E731
    c = np.sort(abs(values))[len(V) // 2] / scipy.optimize.brentq(half, 0, 1)
    return X @ np.diag([np.sqrt(x**2 - c**2) if x > c else 0 for x in values]) @ X.T, c


def approximate_message_passing(Ms, y, steps):
    """AMP with a residual in the space of measurements, and the divergence by differences, the noise's level held."""
    m = Ms.shape[-1]
    Z, z, b = np.zeros((m, m)), 0 * y, 0.0
    units = [np.outer(e, f) + np.outer(f, e) for i, e in enumerate(np.eye(m)) for f in np.eye(m)[: i + 1]]
    units = [U / np.linalg.norm(U) for U in units]
    for _ in range(steps):
        z = y - np.einsum("ijk,jk->i", Ms, Z) + b * z
        V = Z + np.einsum("i,ijk->jk", z, Ms)
        Z, c = shrunk(V)

        def at(V, c=c):
            values, X = np.linalg.eigh(V)
            return (X * np.sqrt(np.where(values > c, values**2 - c**2, 0))) @ X.T

        b = sum(np.sum(U * (at(V + 1e-6 * U) - at(V - 1e-6 * U))) / 2e-6 for U in units) / len(y)
    return Z


def horizontal_step(X, Theta, direction, damping, E):
    """polar(X + (I − XXᵀ) direction X Θ(Θ² + λ²I)^{-1}), λ = damping ‖E‖_F, by inverses and a square root."""
    m, r = X.shape
    lam = damping * np.linalg.norm(E)
    Y = X + (np.eye(m) - X @ X.T) @ direction @ X @ Theta @ np.linalg.inv(Theta @ Theta + lam**2 * np.eye(r))
    return scipy.linalg.polar(Y)[0]


def preconditioned_weight_normalization(Ms, y, X, Theta, eta, mu, damping, steps):
    """PWN; with mu = None the magnitude moves first, by an exact line search."""
    for _ in range(steps):
        E = residual_gradient(Ms, X @ Theta @ X.T, y)
        if mu is None:
            S = X.T @ E @ X
            Theta = Theta - np.sum(S**2) / np.sum(np.einsum("ijk,jk->i", Ms, X @ S @ X.T) ** 2) * S
            Z = X @ Theta @ X.T
            E = residual_gradient(Ms, Z, y)
            X = horizontal_step(X, Theta, -eta * E, damping, E)
            Theta = X.T @ (Z - eta * E) @ X
        else:
            X = horizontal_step(X, Theta, -eta * E, damping, E)
            Theta = Theta - mu / 2 * X.T @ residual_gradient(Ms, X @ Theta @ X.T, y) @ X
    return X, Theta


def one_product_weight_normalization(Ms, y, X, Theta, damping, steps):
    """PWN1 with every gradient and curvature taken from M itself, however many products that makes."""
    measure = lambda Z: np.einsum("ijk,jk->i", Ms, Z)  # noqa: E731
    W = X @ Theta @ X.T
    for _ in range(steps):
        move = X @ Theta @ X.T - W
        if np.any(move):
            W = W + (measure(move) @ (y - measure(W))) / np.sum(measure(move) ** 2) * move
        E = residual_gradient(Ms, W, y)
        P = X @ X.T
        tangent = P @ E + E @ P - P @ E @ P
        beta = measure(tangent) @ measure(move) / np.sum(measure(move) ** 2) if np.any(move) else 0
        T = W - E + beta * move
        X = horizontal_step(X, Theta, T, damping, E)
        Theta = X.T @ T @ X
    return X, Theta
