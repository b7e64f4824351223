"""Small dense linear algebra on stacks (..., m, m), inside the array API standard."""

import functools
import math

import numpy as np

from wnlib.backend import array_namespace


def mT(X):
    """Return the transpose of every matrix in the stack X (..., m, r), as (..., r, m)."""
    # CuPy arrays have no .mT, and the namespace's function costs more than the small products it serves.
    return X.mT if hasattr(X, "mT") else array_namespace(X).matrix_transpose(X)


def mH(X):
    """Return the conjugate transpose of every matrix in the stack X (..., m, r), as (..., r, m)."""
    return mT(array_namespace(X).conj(X) if is_complex(X.dtype) else X)


def is_complex(dtype):
    """Whether the `dtype`, of any backend, is complex."""
    return dtype.kind == "c" if hasattr(dtype, "kind") else "complex" in str(dtype)


def sym(S):
    """Return the symmetric, or Hermitian, part (S + Sᴴ)/2 of every matrix in the stack S (..., m, m)."""
    return 0.5 * (S + mH(S))


def eye_like(S):
    """Return the identity with the size, dtype and device of the square matrices in S (..., r, r)."""
    return _eye(S.shape[-1], array_namespace(S), S.dtype, S.device)


@functools.lru_cache(maxsize=64)
def _eye(r, xp, dtype, device):
    return xp.eye(r, dtype=dtype, device=device)


def trace(S):
    """Return the trace of every matrix in the stack S (..., m, m), as (...)."""
    return array_namespace(S).linalg.trace(S)


def squared_norm(Z):
    """Return the squared Frobenius norm of every matrix in the stack Z (..., m, r), as (...)."""
    xp = array_namespace(Z)
    flat = xp.reshape(Z, (*Z.shape[:-2], Z.shape[-2] * Z.shape[-1]))
    square = xp.vecdot(flat, flat)
    return xp.real(square) if is_complex(Z.dtype) else square


def inner(S, T):
    """Return ⟨S, T⟩ = Re tr(SᴴT) of the matrices in S and T (..., m, r), as (..., 1, 1)."""
    xp = array_namespace(S)
    total = xp.sum((xp.conj(S) if is_complex(S.dtype) else S) * T, axis=(-2, -1), keepdims=True)
    return xp.real(total) if is_complex(total.dtype) else total


def quotient(above, below, otherwise):
    """Return above/below where below > 0, else the number `otherwise`, for arrays `above` and `below` of one shape."""
    xp = array_namespace(above)
    positive = below > 0
    one = xp.ones_like(below)
    return xp.where(positive, above / xp.where(positive, below, one), otherwise * one)


def tangent(X, E):
    """Return the projection of Hermitian E (..., m, m) on the tangent space at XΘXᴴ of the matrices of its rank.

    That is E without its part orthogonal to X (..., m, r) on both sides.
    """
    EX, Xh = E @ X, mH(X)
    half = (EX - X @ (0.5 * (Xh @ EX))) @ Xh
    return half + mH(half)


def dim_sym(m):
    """Return d = m(m+1)/2, the dimension of the symmetric m×m matrices."""
    return m * (m + 1) // 2


def degrees_of_freedom(p, q, r, hermitian, field=1):
    """Return the real dimension of the matrices (p, q) of rank r; `field` is 2 for complex ones, else 1.

    Real symmetric r(2p − r + 1)/2, complex Hermitian r(2p − r), p×q matrices field·r(p + q − r).
    """
    if hermitian:
        return r * (2 * p - r) if field == 2 else r * (2 * p - r + 1) // 2
    return field * r * (p + q - r)


def svec(S):
    """Return the isometric coordinates of symmetric matrices S (..., m, m), as (..., d), d = m(m+1)/2.

    Upper triangle by rows, off-diagonal entries times √2: svec(S)·svec(T) = ⟨S, T⟩.
    """
    xp = array_namespace(S)
    m = S.shape[-1]
    pick, weight, _, _ = _svec_maps(m, xp, S.dtype, S.device)
    return xp.take(xp.reshape(S, (*S.shape[:-2], m * m)), pick, axis=-1) * weight


def smat(s):
    """Return the symmetric matrices (..., m, m) with isometric coordinates s (..., d): the inverse of svec.

    Raises ValueError when d is not m(m+1)/2 for an integer m.
    """
    xp = array_namespace(s)
    d = s.shape[-1]
    m = (math.isqrt(8 * d + 1) - 1) // 2
    if dim_sym(m) != d:
        raise ValueError(f"s has {d} coordinates: must be m(m+1)/2 of them for an integer m")
    _, _, place, weight = _svec_maps(m, xp, s.dtype, s.device)
    return xp.reshape(xp.take(s, place, axis=-1) * weight, (*s.shape[:-1], m, m))


@functools.lru_cache(maxsize=64)
def _svec_maps(m, xp, dtype, device):
    """Indices and weights of svec and of smat, on the device; made once for each size and backend."""
    i, j = np.triu_indices(m)
    place = np.zeros((m, m), dtype=np.int64)
    place[i, j] = place[j, i] = np.arange(i.size)
    up, down = np.where(i == j, 1.0, math.sqrt(2)), np.where(np.eye(m, dtype=bool), 1.0, math.sqrt(0.5))
    there = functools.partial(xp.asarray, device=device)
    return there(i * m + j), there(up, dtype=dtype), there(place.reshape(-1)), there(down.reshape(-1), dtype=dtype)


def eigh(S):
    """Return the eigenvalues (..., r), ascending, and eigenvectors (..., r, r) of Hermitian S (..., r, r).

    A matrix with entries that are not finite gives NaN and leaves the rest of the stack alone (LAPACK raises).
    """
    xp = array_namespace(S)
    if isinstance(S, np.ndarray) and np.all(np.isfinite(S)):  # a look that is free on the host, not on a device
        return xp.linalg.eigh(S)
    finite = xp.all(xp.isfinite(S), axis=(-2, -1))[..., None]
    values, vectors = xp.linalg.eigh(xp.where(finite[..., None], S, eye_like(S)))
    nan = xp.asarray(xp.nan, dtype=values.dtype, device=S.device)
    return xp.where(finite, values, nan), xp.where(finite[..., None], vectors, xp.astype(nan, S.dtype))


def inverse_sqrt(S):
    """Return S^{-1/2} for symmetric positive definite matrices S (..., r, r); NaN where S has entries not finite."""
    values, vectors = eigh(S)
    return (vectors / array_namespace(S).sqrt(values)[..., None, :]) @ mH(vectors)
