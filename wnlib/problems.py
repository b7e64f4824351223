"""Ground truths A = UΣUᵀ, their spectra, and the random streams that everything is drawn from."""

import math
from typing import Any, NamedTuple

import array_api_compat.numpy
import numpy as np

from wnlib import backend, stiefel, validate
from wnlib.linalg import mT, sym


class Streams(NamedTuple):
    """One generator per role, so that changing one role's use leaves the others' draws alone."""

    truth: list[np.random.Generator]
    operator: list[np.random.Generator]
    start: list[np.random.Generator]
    noise: list[np.random.Generator]


class Truth(NamedTuple):
    """A = U diag(sigma) Uᵀ with U (..., m, r_A) in the Stiefel manifold and sigma (..., r_A) decreasing."""

    U: Any
    sigma: Any

    @property
    def A(self):
        """The matrices A (..., m, m), symmetric to the last bit."""
        half = self.U * self.sigma[..., None, :]
        return sym(half @ mT(self.U))


def streams(seed, trajectories, first=0):
    """Return Streams of independent generators; member i of each list belongs to trajectory `first` + i.

    A trajectory draws the same numbers however many run before and beside it (SeedSequence.spawn).
    """
    validate.integer("seed", seed, 0)
    validate.integer("trajectories", trajectories, 1)
    validate.integer("first", first, 0)
    backend.require_memory(
        len(Streams._fields) * 2**10 * trajectories,  # 800 bytes a generator, measured
        f"streams for trajectories = {trajectories}",
        lambda free: f"trajectories = {free // (len(Streams._fields) * 2**10)} would fit",
        np,
    )
    seeds = [np.random.SeedSequence(seed, spawn_key=(i,)) for i in range(first, first + trajectories)]
    members = [s.spawn(len(Streams._fields)) for s in seeds]
    return Streams(*([np.random.default_rng(s) for s in role] for role in zip(*members, strict=True)))


SPECTRA = {"linear": np.linspace, "geometric": np.geomspace}


def spectrum(r_A, kappa, kind="linear"):
    """Return r_A singular values from 1 down to 1/kappa, spaced linearly or geometrically.

    Raises ValueError unless r_A >= 1, kappa >= 1 (and kappa = 1 where r_A = 1).
    """
    validate.integer("r_A", r_A, 1)
    kappa = validate.real("kappa", kappa, 1, why="κ = σ_1/σ_{r_A}")
    if r_A == 1 and kappa != 1:
        raise ValueError(f"kappa = {kappa:g} with r_A = 1: must be 1, since σ_1 is the only singular value")
    return validate.choice("kind", kind, SPECTRA)(1, 1 / kappa, r_A)


def truth(m, sigma, rng, xp=array_api_compat.numpy):
    """Return the Truth with singular values `sigma` on a uniformly random r_A-dimensional subspace of R^m.

    `sigma` is (r_A,) or (K, r_A), decreasing and positive. With one generator, U is (m, r_A); with a list of
    S of them U is (S, m, r_A), and (S, 1, m, r_A) when sigma has K rows: A is then (S, K, m, m), the K spectra
    of a trajectory sharing its subspace. Raises MemoryError when A will not fit.
    """
    validate.integer("m", m, 1)
    sigma = _singular_values(sigma)
    r_A = validate.integer("r_A", sigma.shape[-1], 1, m, "as many as sigma has entries, at most m")
    copies = (len(rng) if isinstance(validate.generators("rng", rng), list) else 1) * (sigma.size // r_A)
    bytes_per_entry = 2 * 8 * copies  # of A and of what it is made from
    backend.require_memory(
        bytes_per_entry * m * m,
        f"truth with m = {validate.shown(m)}",
        lambda free: f"m = {math.isqrt(free // bytes_per_entry)} would fit",
        xp,
    )
    U = stiefel.random(m, r_A, rng, xp)
    if sigma.ndim == 2:
        U = U[..., None, :, :]
    return Truth(U, xp.asarray(sigma))


def _singular_values(sigma):
    """`sigma` as a NumPy array (r_A,) or (K, r_A), or one line that says what is wrong with it."""
    shown = validate.shown(sigma.tolist() if hasattr(sigma, "tolist") else sigma)
    try:
        values = np.asarray(sigma, dtype=float)
    except (TypeError, ValueError):
        raise TypeError(f"sigma = {shown}: must be numbers, (r_A,) or (K, r_A) of them") from None
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"sigma = {shown}: must be (r_A,) or (K, r_A) numbers")
    if not np.all(np.isfinite(values)) or np.any(values <= 0) or np.any(np.diff(values, axis=-1) > 0):
        raise ValueError(f"sigma = {shown}: must be finite, positive and decreasing along its last axis")
    return values


def require_rank(r, r_A, m):
    """Raise ValueError unless r_A <= r <= m: a factorisation of rank r must be able to hold A."""
    validate.integer("r_A", r_A, 1, validate.integer("m", m, 1), f"the rank of A, at most m = {m}")
    return validate.integer("r", r, r_A, m, f"r_A = {r_A} <= r <= m = {m}: the factors must be able to hold A")
