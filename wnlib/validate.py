"""Refuses bad input in one line: the parameter, its value, what is allowed, and the way out."""

import difflib
import math
import numbers

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj


def integer(name, value, low, high=None, why=""):
    """Return `value` as an int in [low, high]; `why` says what the bounds mean.

    Raises TypeError for anything but an integer, ValueError outside the bounds.
    """
    allowed = f"an integer >= {low}" if high is None else f"an integer from {low} to {high}"
    allowed += f" ({why})" if why else ""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name} = {shown(value)}: must be {allowed}")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} = {shown(int(value))}: must be {allowed}")
    return int(value)


def real(name, value, low=-math.inf, *, strict=False, why=""):
    """Return `value` as a finite float, `>= low` (`> low` when strict).

    Raises TypeError for anything but a real number, ValueError when it is not finite or too small.
    """
    bound = "" if low == -math.inf else f" {'>' if strict else '>='} {low:g}"
    allowed = f"a finite number{bound}" + (f" ({why})" if why else "")
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} = {shown(value)}: must be {allowed}")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} = {shown(value)}: must be {allowed}; it is beyond double precision") from None
    if not math.isfinite(number) or number < low or (strict and number == low):
        raise ValueError(f"{name} = {number:g}: must be {allowed}")
    return number


def positive(name, value):
    """Return `value`, a finite real number > 0 such as a step size, as a float."""
    return real(name, value, 0, strict=True)


def flag(name, value):
    """Return `value`, True or False, as a bool. Raises TypeError for anything else."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} = {shown(value)}: must be True or False")
    return bool(value)


def choice(name, value, allowed):
    """Return `allowed[value]` (or `value` itself where `allowed` is no dict); name the nearest if unknown."""
    if not isinstance(value, str) or value not in allowed:
        near = difflib.get_close_matches(value.lower(), list(allowed), n=1) if isinstance(value, str) else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name} = {shown(value)}: must be one of {', '.join(map(repr, allowed))}{hint}")
    return allowed[value] if isinstance(allowed, dict) else value


def matrices(name, value, shape, symmetric=False, complex=False):
    """Return `value`, a stack (..., *shape) of matrices in float32 or float64, finite, with at least one entry.

    `shape` is a pair of sizes, None where any size will do. With `complex` complex128 and, for symmetric, Hermitian
    matrices will do too. Raises TypeError for non-arrays and wrong dtypes, ValueError for wrong shapes, entries that
    are not finite and (on request) asymmetry.
    """
    wanted = f"(..., {', '.join('any' if s is None else str(s) for s in shape)})"
    if not is_array_api_obj(value):
        raise TypeError(f"{name} is a {type(value).__name__}: must be an array of shape {wanted}")
    xp = array_namespace(value)
    if value.dtype not in (xp.float32, xp.float64) and not (complex and value.dtype == xp.complex128):
        allowed = "float32, float64 or complex128" if complex else "float32 or float64"
        raise TypeError(f"{name} has dtype {value.dtype}: must be {allowed}; convert it first")
    sizes_agree = all(s is None or s == n for s, n in zip(shape, value.shape[-2:], strict=False))
    if value.ndim < 2 or not sizes_agree or 0 in value.shape:
        empty = ", none of them empty" if 0 in value.shape else ""
        raise ValueError(f"{name} has shape {tuple(value.shape)}: must be {wanted}{empty}")
    if not bool(xp.all(xp.isfinite(value))):
        raise ValueError(f"{name} has entries that are NaN or infinite: all must be finite; check where it was made")
    if symmetric:
        mirrored = xp.matrix_transpose(value)
        hermitian = value.dtype == xp.complex128
        if not bool(xp.all(value == (xp.conj(mirrored) if hermitian else mirrored))):
            kind, mirror = ("Hermitian", "conjugate transpose") if hermitian else ("symmetric", "transpose")
            raise ValueError(f"{name} is not {kind}: must equal its {mirror}; symmetrise it with linalg.sym")
    return value


def generators(name, value):
    """Return `value`, a numpy Generator or a non-empty list of them (one per member of the leading axis)."""
    members = value if isinstance(value, list) and value else [value]
    if not all(isinstance(g, np.random.Generator) for g in members):
        raise TypeError(
            f"{name} = {shown(value)}: must be a numpy.random.Generator or a list of them; see problems.streams"
        )
    return value


def stacked(x, stack, tail):
    """Return how many axes x has between the operator's `stack`, with which it must begin, and its `tail` last ones.

    Raises ValueError unless it begins so.
    """
    if tuple(x.shape[: len(stack)]) != stack:
        lead = tuple(x.shape[: x.ndim - tail])
        raise ValueError(f"input has leading shape {lead}: must begin with the operator's stack {stack}")
    return x.ndim - tail - len(stack)


def measurements(w, rows):
    """Raise ValueError unless w (..., rows) has as many measurements as the operator."""
    if w.shape[-1] != rows:
        raise ValueError(f"w has {w.shape[-1]} measurements: must be {rows}, as many as the operator")


def shown(value):
    """Return `value` as a message shows it: its repr on one line, cut to a readable length."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python will not print an integer of thousands of digits
        text = f"{type(value).__name__} of thousands of digits"
    return text if len(text) <= 80 else f"{text[:60]}…"
