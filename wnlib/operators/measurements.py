"""Data: M*(y) for y = M(A) + noise."""

import math

import numpy as np

from wnlib import backend, validate
from wnlib.backend import array_namespace, drawn
from wnlib.operators.population import Population


def data(operator, A, noise_std=0.0, rng=None):
    """Return M*(y) (..., m, m) for y = M(A) + noise: all that a gradient ever needs of the data.

    M*(M(Z) − y) = M*M(Z) − M*(y). The noise is N(0, noise_std²) on each measurement; an array noise_std (...)
    gives each member of the leading axes of A its own level. `rng` is a Generator or one per member of
    operator.stack. Under the triangular equivalent d measurements carry it: M*(noise) keeps its law.
    """
    validate.matrices("A", A, (operator.m, operator.m), symmetric=True, complex=not getattr(operator, "real", True))
    xp = array_namespace(A)
    levels = _levels(noise_std, tuple(A.shape[:-2]))
    (b,) = operator.normal(A)
    if not np.any(levels):
        return b
    if isinstance(operator, Population):
        raise ValueError(
            "noise_std > 0 with the population operator: must be 0, infinitely many samples average noise out"
        )
    validate.generators("rng", rng)
    if operator.stack != ((len(rng),) if isinstance(rng, list) else ()):
        given = f"a list of {len(rng)} generators" if isinstance(rng, list) else "one generator"
        raise ValueError(f"rng is {given} for operators of stack {operator.stack}: must be one for each operator")
    if hasattr(operator, "noise"):  # it knows the law of M*(noise) without the measurements
        between = A.shape[len(operator.stack) : -2]
        noise = operator.noise(math.prod(between), rng)
        return b + xp.reshape(noise, A.shape) * xp.asarray(levels[..., None, None])
    shape = tuple(operator.measure(A).shape[len(operator.stack) :])
    unit = drawn(rng, xp, lambda g: g.standard_normal(shape))
    return b + operator.adjoint(unit * xp.asarray(levels[..., None]))


def _levels(noise_std, batch):
    """The noise levels as a NumPy array, () or such that it broadcasts with `batch`."""
    if not hasattr(noise_std, "shape"):
        return np.asarray(validate.real("noise_std", noise_std, 0))
    levels = backend.to_numpy(noise_std)
    if levels.dtype.kind not in "iuf" or not np.all(np.isfinite(levels)) or np.any(levels < 0):
        raise ValueError(f"noise_std = {validate.shown(levels.tolist())}: must be finite numbers >= 0")
    try:
        return np.broadcast_to(levels.astype(float), batch)
    except ValueError:
        raise ValueError(f"noise_std has shape {levels.shape}: must broadcast with A's leading axes, {batch}") from None
