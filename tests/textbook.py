"""The paper's algorithms written out with full matrices and loops: slow, plain, and sharing no code with wnlib."""

import numpy as np
import scipy.linalg


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


def gradient_descent(Ms, y, Y, eta, steps):
    """Y₊ = Y − η M*(M(YYᵀ) − y) Y."""
    for _ in range(steps):
        Y = Y - eta * residual_gradient(Ms, Y @ Y.T, y) @ Y
    return Y


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
