"""Your own measurements in, the matrix out: `recover`, with the rank unknown."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from wnlib import continuation, progress, validate
from wnlib.backend import array_namespace
from wnlib.operators.given import Problem

# How a point was accepted (see `continuation.path`) where the answer can be relied on.
SURE = ("exact", "noise", "quiet")
# New starts where nothing is left in y but the point is not sure; elsewhere as many as there are products for.
RETRIES = 30
# How probable it is, about, that each test overlooks an answer which is not the only one: at first, and at a new start.
RISKS = (0.01,), (0.001, 0.001)


@dataclass(frozen=True, eq=False)
class Recovered:
    """What was recovered: `matrix` (p, q) = X Θ Wᴴ of rank `rank`.

    X (p, r) and W (q, r) have orthonormal columns, W = X for Hermitian matrices; Theta (r, r) is diagonal. `residuals`
    is ‖M(Z) − y‖/‖y‖ after each step, weighted where the search starts anew. `products` counts those with M*M,
    `noise_std` estimates one measurement's noise from the residual. `success` says whether the matrix explains y and
    is told by the measurements from its neighbours of the same rank, `message` how; if False do not rely on it. That
    none far away explains y too is not proved. Gaussian measurements are not seen to have any (notebook
    rank_continuation), few single entries now and then.
    """

    matrix: Any
    rank: int
    X: Any
    Theta: Any
    W: Any
    residuals: np.ndarray
    products: int
    noise_std: float
    success: bool
    message: str


def recover(
    M,
    y,
    shape=None,
    *,
    hermitian=None,
    rank=None,
    max_rank=None,
    psd=False,
    noise_std=None,
    tol=None,
    max_products=10_000,
    callback=None,
    seed=0,
):
    """Return a matrix A of low rank that explains the measurements y_i = ⟨M_i, A⟩ + noise, ⟨M, A⟩ = tr(MᴴA),
    or its real part where y is real: numpy.einsum("nij,ij->n", M.conj(), A).

    M is an array (n, p, q) of measurement matrices, real or complex; or a pair of functions, M: (p, q) → (n,) and its
    adjoint w ↦ Σ w_i M_i, or a scipy LinearOperator from the p·q entries, row by row, to n numbers, both with `shape` =
    (p, q), or m for (m, m); or an operator of wnlib.operators. No scale is assumed. y (n,) lives where M does. A square
    A is taken to be symmetric, or Hermitian, unless `hermitian` = False; the M_i need not be.

    A is sought by rank continuation (see wnlib.continuation) up to `max_rank`, by default the largest rank with
    fewer degrees of freedom than measurements; `rank` says it, and `psd` that A is positive semidefinite. Where y
    stays unexplained, all starts anew with random positive weights on the measurements: A is a minimum for all
    weights, a spurious minimum in general not for others. The answer is the first point on the way up that explains
    y, in noise one beyond which nothing stands out; that no lower rank explains y is not proved. y is explained
    when ‖M(Z) − y‖ ≤ tol·‖y‖ (default 1e-10, in float32 1e-5), or, with `noise_std` > 0, that of each measurement,
    when the residual is no larger than the noise (discrepancy principle; n at least 8/7 of the degrees of freedom).
    If neither is the case and `noise_std` is not given, the residual is taken for noise where nothing in it stands
    out of what random signs would give, n is at least six times the degrees of freedom (twice, where `rank` is
    given), and no higher rank with up to n/2 of them is exact, or n, if more than half of y would be noise. That
    may be wrong: give `noise_std` where it is known, 0 for exact data. An answer that could move, to first order,
    with hardly a change of M(Z) is not relied on (`continuation.unique`, which takes some more products). No search
    is begun after `max_products`. After each step `callback(rank, residual, products)` is called, the residual
    relative to y, both weighted where the search starts anew; if it returns True the search ends.

    Returns a Recovered, the same for the same `seed`; warns (RuntimeWarning) when its `success` is False. Raises
    TypeError or ValueError, in one line and before any work, for input that does not fit, an adjoint that is none, and
    measurements too few for rank 1 or for `rank`.
    """
    problem = Problem(M, y, shape, hermitian, np.random.default_rng(validate.integer("seed", seed, 0)))
    problem.psd = validate.flag("psd", psd)
    if problem.psd and not problem.hermitian:
        raise ValueError("psd = True with hermitian = False: must be a Hermitian matrix; leave one of them out")
    if noise_std is not None:
        why = "one for all; where they differ, divide each y_i and M_i by its own and give 1"
        problem.noise_std = validate.real("noise_std", noise_std, 0, why=why) / problem.unit
    if tol is not None:
        tol = validate.real("tol", tol, 10 * problem.eps, why="ten roundings, and below 1")
        if not tol < 1:
            raise ValueError(f"tol = {tol:g}: must be below 1, where the matrix 0 explains y")
        problem.exact = tol**2 * problem.total
    problem.meter.most = validate.integer("max_products", max_products, 1)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback = {validate.shown(callback)}: must be a function of rank, residual and products")
    problem.meter.callback = callback
    least, limit = _ranks(problem, rank, max_rank)
    with progress.bar(problem.meter.most, "recover", "product") as problem.meter.bar:
        best, left = continuation.path(problem, least, limit), RETRIES
        if best[2]:
            best = _finished(problem, *best, RISKS[0])
        while best[2] not in SURE and left and not problem.spent():
            left -= 3 if best[2] == "ambiguous" else bool(best[2])
            point, _, how = continuation.path(problem.weighted(), least, limit)
            found = point, problem.forward(point.matrix) - problem.y, ""  # what its own weights make it says nothing
            if how in ("exact", "noise"):
                found = _finished(problem, *found, RISKS[1])
            lower = problem.inner(found[1], found[1]) < problem.inner(best[1], best[1])
            if found[2] in SURE or (lower and found[0].rank == best[0].rank):
                best = *found[:2], found[2] or best[2]
        point, residual = continuation.fit(problem, *best[:2], continuation.FINE)
    result = _result(problem, point, residual, best[2], limit)
    if not result.success:
        warnings.warn(f"recover: {result.message}", RuntimeWarning, stacklevel=2)
    return result


def _finished(problem, point, residual, how, risks):
    """The point fitted to the end, its residual, and how it is accepted: "ambiguous" if it is not the only one."""
    point, residual = continuation.fit(problem, point, residual, continuation.FINE)
    how = problem.judged(point.rank, residual) or how
    if how in SURE:
        point, residual = continuation.trimmed(problem, point, residual)
        how = how if all(continuation.unique(problem, point, risk) for risk in risks) else "ambiguous"
    return point, residual, how


def _ranks(problem, rank, max_rank):
    """The least and the largest rank to accept."""
    p, q = problem.shape
    if rank is not None and max_rank is not None:
        raise ValueError(
            f"rank = {validate.shown(rank)} and max_rank = {validate.shown(max_rank)}: must be one of them"
        )
    limit = max((r for r in range(1, min(p, q) + 1) if problem.freedom(r) < problem.count), default=0)
    if not limit:
        raise ValueError(
            f"y has {problem.count} numbers that see a matrix: must be more than {problem.freedom(1)}, the degrees of "
            "freedom of rank 1"
        )
    name, given = ("rank", rank) if max_rank is None else ("max_rank", max_rank)
    if given is None:
        return 0, limit
    validate.integer(name, given, 1, min(p, q))
    if rank is not None and rank > limit:
        raise ValueError(
            f"rank = {rank}: must be at most {limit}; rank {rank} has {problem.freedom(rank)} degrees of freedom, and "
            f"there are {problem.count} measurements"
        )
    return (rank, rank) if rank else (0, min(max_rank, limit))


def _result(problem, point, residual, how, limit):
    xp, meter = array_namespace(problem.y), problem.meter
    left = math.sqrt(problem.inner(residual, residual) / problem.total)
    r, free = point.rank, problem.freedom(point.rank)
    spread, size = problem.spread(r, residual) * problem.unit, problem.unit_matrix
    stated = f"rank {r}, ‖M(Z) − y‖ = {left:.2g}·‖y‖; {problem.count} measurements, {free} degrees of freedom"
    if how == "quiet" and (doubt := continuation.doubt(problem, point, residual)):
        how, message = "", f"{stated}; {doubt}"
    elif how == "quiet":
        message = f"{stated}; nothing stands out of the residual: taken for noise of standard deviation {spread:.3g}"
    elif how == "noise":
        message = f"{stated}; the residual is that of the noise"
    elif how == "exact":
        message = stated
    elif how == "ambiguous":
        message = f"{stated}, but the measurements do not tell this matrix from others near it: give more"
    elif meter.stopped:
        message = f"stopped by the callback at {stated}"
    elif how == "maybe" and problem.noise_std and spread > problem.noise_std * problem.unit:
        message = (
            f"{stated}: nothing stands out of the residual, but noise_std = {problem.noise_std * problem.unit:g} is "
            f"too small for it: {spread:.3g} would explain it"
        )
    elif how == "maybe":
        message = (
            f"{stated}: nothing stands out of the residual, but measurements are too few to tell noise from a wrong "
            f"matrix; give more{'' if problem.noise_std else f', or noise_std if this is noise: {spread:.3g} or so'}"
        )
    else:
        message = (
            f"not recovered within max_products = {meter.most} at rank ≤ {limit}: {stated}; give more measurements, "
            "noise_std if there is noise, or a larger max_products or rank"
        )
    return Recovered(
        point.matrix * size,
        r,
        point.X,
        xp.astype(point.theta * size, point.X.dtype) * xp.eye(r, dtype=point.X.dtype),
        point.W,
        np.array([*meter.residuals, left]),
        math.ceil(meter.products),
        spread,
        how in SURE,
        message,
    )
