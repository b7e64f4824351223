"""Measurements as a user has them: arrays, functions, LinearOperators; made a pair of functions."""

import math
import numbers

from wnlib import backend, validate
from wnlib.backend import array_namespace


def given(M, y, shape=None):
    """Return (forward, adjoint, y, (p, q), unit, unit_matrix, dtype) for measurements `M` of a matrix and `y` (n,).

    M: an array (n, p, q), a pair of functions or a scipy LinearOperator with `shape`, or an operator with measure and
    adjoint; see wnlib.recover. Integers become floating, and y takes the precision of an array M. Raises TypeError or
    ValueError for what is none of these, does not fit together, or is not finite; and where y is zero.

    y is returned in units of `unit` and measures the matrix in units of `unit_matrix`, so that all is of the size of 1
    and squares stay in range. Both are powers of two: nothing is rounded. `dtype` is that of what adjoint gives.
    """
    if not validate.is_array_api_obj(y):
        raise TypeError(f"y is a {type(y).__name__}: must be an array (n,) of the measurements; use numpy.asarray")
    xp = array_namespace(y)
    if y.ndim != 1 or not y.shape[0]:
        raise ValueError(f"y has shape {tuple(y.shape)}: must be (n,), one number for each measurement")
    if xp.isdtype(y.dtype, "integral"):
        y = xp.astype(y, xp.float64)
    if not xp.isdtype(y.dtype, ("real floating", "complex floating")):
        raise TypeError(f"y has dtype {y.dtype}: must be real or complex floating; convert it first")
    if not bool(xp.all(xp.isfinite(y))):
        raise ValueError("y has entries that are NaN or infinite: all must be finite; leave those measurements out")
    if shape is not None:
        sides = (shape, shape) if isinstance(shape, numbers.Integral) else shape
        if not (isinstance(sides, tuple) and len(sides) == 2):
            raise TypeError(f"shape = {validate.shown(shape)}: must be a pair (p, q), or m for (m, m)")
        shape = tuple(validate.integer("shape", side, 1) for side in sides)
    if validate.is_array_api_obj(M):
        return _in_units(*_array_form(M, y, shape))
    if hasattr(M, "measure") and hasattr(M, "adjoint"):
        if getattr(M, "stack", ()):
            raise ValueError(f"M is a stack {M.stack} of operators: must be one; recover them one by one")
        if shape not in (None, (M.m, M.m)):
            raise ValueError(f"shape = {shape}: must be {(M.m, M.m)}, the operator's, or left out")
        forward, adjoint, shape = M.measure, M.adjoint, (M.m, M.m)
    else:
        linear = hasattr(M, "matvec") and hasattr(M, "rmatvec")
        if not linear and not (isinstance(M, (tuple, list)) and len(M) == 2 and all(map(callable, M))):
            raise TypeError(
                f"M is a {type(M).__name__}: must be an array (n, p, q), numpy.asarray makes one of a list; a pair of "
                "functions; a LinearOperator with matvec and rmatvec; or an operator of wnlib.operators"
            )
        if shape is None:
            raise ValueError("shape is missing: must be (p, q) where M is not an array, or m for (m, m)")
        if linear and tuple(M.shape) != (size := (y.shape[0], shape[0] * shape[1])):
            raise ValueError(f"M has shape {tuple(M.shape)}: must be {size}, y's length and p·q")
        flat = (lambda Z: M.matvec(xp.reshape(Z, (-1,)))), (lambda w: xp.reshape(xp.asarray(M.rmatvec(w)), shape))
        forward, adjoint = flat if linear else M
    return _in_units(_checked(forward, "forward(Z)", tuple(y.shape)), _checked(adjoint, "adjoint(w)", shape), y, shape)


def _in_units(forward, adjoint, y, shape):
    unit = _power_of_two(y)
    if not unit:
        raise ValueError("y is zero: must have entries that are not; the matrix 0 explains it")
    y = y / unit
    E = adjoint(y)
    size = _power_of_two(E) or 1.0
    scaled = (lambda Z: forward(Z / size)), (lambda w: adjoint(w) / size)
    return *scaled, y, shape, unit, unit / size, (E / size).dtype


def _power_of_two(x):
    """The power of two next above the largest entry of x in size; 0 where all are zero."""
    xp = array_namespace(x)
    largest = float(xp.max(xp.abs(x)))
    return math.ldexp(1.0, math.frexp(largest)[1]) if largest else 0.0


def _array_form(M, y, shape):
    xp = backend.common_namespace({"M": M, "y": y})
    if M.ndim != 3 or 0 in M.shape or M.shape[0] != y.shape[0]:
        raise ValueError(
            f"M has shape {tuple(M.shape)} and y {y.shape[0]} numbers: must be (n, p, q) and n, a matrix for each"
        )
    n, *sides = M.shape
    if shape not in (None, tuple(sides)):
        raise ValueError(f"shape = {shape}: must be {tuple(sides)}, that of M's matrices, or left out")
    if not xp.isdtype(M.dtype, ("real floating", "complex floating", "integral")):
        raise TypeError(f"M has dtype {M.dtype}: must be real or complex floating; convert it first")
    M = xp.astype(M, xp.float64) if xp.isdtype(M.dtype, "integral") else M
    if not bool(xp.all(xp.isfinite(M))):
        raise ValueError("M has entries that are NaN or infinite: all must be finite; check where it was made")
    single = xp.finfo(M.dtype).bits == 32
    real = xp.isdtype(y.dtype, "real floating")
    y = xp.astype(y, (xp.float32 if real else xp.complex64) if single else (xp.float64 if real else xp.complex128))
    flat = xp.reshape(M, (n, sides[0] * sides[1]))
    conj = (lambda x: xp.conj(x)) if xp.isdtype(M.dtype, "complex floating") else (lambda x: x)
    return (
        lambda Z: conj(flat @ conj(xp.reshape(Z, (-1,)))),
        lambda w: xp.reshape(w @ flat, tuple(sides)),
        y,
        tuple(sides),
    )


def _checked(function, name, shape):
    """`function`, its value an array of `shape` or refused in one line."""

    def call(x):
        value = function(x)
        if not validate.is_array_api_obj(value) or tuple(value.shape) != shape:
            got = tuple(value.shape) if validate.is_array_api_obj(value) else type(value).__name__
            raise ValueError(f"{name} gave {got}: must be an array of shape {shape}")
        return value

    return call
