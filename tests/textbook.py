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
