"""Your own measurements in, the matrix out: `recover`, with the rank unknown."""

import copy
import math
import warnings
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from wnlib import continuation, progress, validate
from wnlib.backend import array_namespace
from wnlib.linalg import degrees_of_freedom, inner, is_complex, sym
from wnlib.operators.given import given

# How a point was accepted (see `continuation.path`) where the answer can be relied on.
SURE = ("exact", "noise", "quiet")
# A restart weighs the measurements by exp(SPREAD·N(0, 1)).
SPREAD = 0.5


@dataclass(frozen=True, eq=False)
class Recovered:
    """What was recovered: `matrix` (p, q) = X Θ Wᴴ of rank `rank`.

    X (p, r) and W (q, r) have orthonormal columns, W = X for Hermitian matrices; Theta (r, r) is diagonal. `residuals`
    is ‖M(Z) − y‖/‖y‖ after each step, weighted where the search starts anew. `products` counts those with M*M,
    `noise_std` estimates one measurement's noise from the residual. `success` says whether the matrix explains y,
    `message` how; if False do not rely on it. That what explains y is A takes measurements that tell A from all others
    of its rank and below: Gaussian ones do as measured (notebook rank_continuation), few single entries need not.
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

    A is sought by rank continuation (see wnlib.continuation) up to `max_rank`, by default the largest rank with fewer
    degrees of freedom than measurements; `rank` says it, and `psd` that A is positive semidefinite. Where y stays
    unexplained, all starts anew with random positive weights on the measurements: A is a minimum for all weights, a
    spurious minimum in general not for others. The first rank on the way up that explains y is the answer; that no
    lower one does is not proved. y is explained when ‖M(Z) − y‖ ≤ tol·‖y‖ (default 1e-10, in float32 1e-5), or,
    with `noise_std` > 0, that of each measurement, when the residual is no larger than the noise (discrepancy
    principle). If neither is the case and `noise_std` is not given, the residual is taken for noise where nothing in it
    stands out of what random signs would give, n is at least six times the degrees of freedom (twice, where `rank` is
    given), and no higher rank with up to n/2 of them is exact. That may be wrong: give `noise_std` where it is known, 0
    for exact data. After each step `callback(rank, residual, products)` is called, the residual relative to y; if it
    returns True the search ends.

    Returns a Recovered, the same for the same `seed`; warns (RuntimeWarning) when its `success` is False. Raises
    TypeError or ValueError, in one line and before any work, for input that does not fit, an adjoint that is none, and
    measurements too few for rank 1 or for `rank`.
    """
    problem = _Problem(M, y, shape, hermitian, np.random.default_rng(validate.integer("seed", seed, 0)))
    problem.psd = _flag("psd", psd)
    if problem.psd and not problem.hermitian:
        raise ValueError("psd = True with hermitian = False: must be a Hermitian matrix; leave one of them out")
    if noise_std is not None:
        why = "one for all; where they differ, divide each y_i and M_i by its own and give 1"
        problem.noise_std = validate.real("noise_std", noise_std, 0, why=why) / problem.unit
    if tol is not None:
        problem.exact = validate.real("tol", tol, 10 * problem.eps, why="ten roundings") ** 2 * problem.total
    problem.meter.most = validate.integer("max_products", max_products, 1)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback = {validate.shown(callback)}: must be a function of rank, residual and products")
    problem.meter.callback = callback
    least, limit = _ranks(problem, rank, max_rank)
    with progress.bar(problem.meter.most, "recover", "product") as problem.meter.bar:
        best = continuation.path(problem, least, limit)
        while best[2] not in SURE and not problem.spent():
            point, residual, how = continuation.path(problem.weighted(), least, limit)
            residual = problem.forward(point.matrix) - problem.y
            if how in ("exact", "noise"):
                point, residual = continuation.fit(problem, point, residual, continuation.FINE)
                how = problem.judged(point.rank, residual)
            else:
                how = ""  # quiet under its own weights only
            lower = problem.inner(residual, residual) < problem.inner(best[1], best[1])
            if how in SURE or (lower and point.rank == best[0].rank):
                best = point, residual, how or best[2]
        point, residual = continuation.fit(problem, *best[:2], continuation.FINE)
        point, residual = continuation.trimmed(problem, point, residual)
    result = _result(problem, point, residual, best[2], limit)
    if not result.success:
        warnings.warn(f"recover: {result.message}", RuntimeWarning, stacklevel=2)
    return result


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
            f"y has {problem.count} numbers: must be more than {problem.freedom(1)}, the degrees of freedom of rank 1"
        )
    name, given = ("rank", rank) if max_rank is None else ("max_rank", max_rank)
    if given is None:
        return 1, limit
    validate.integer(name, given, 1, min(p, q))
    if rank is not None and rank > limit:
        raise ValueError(
            f"rank = {rank}: must be at most {limit}; rank {rank} has {problem.freedom(rank)} degrees of freedom, and "
            f"there are {problem.count} measurements"
        )
    return (rank, rank) if rank else (1, min(max_rank, limit))


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
    elif meter.stopped:
        message = f"stopped by the callback at {stated}"
    elif how == "maybe" and problem.noise_std:
        message = (
            f"{stated}: nothing stands out of the residual, but noise_std = {problem.noise_std * problem.unit:g} is "
            f"too small for it: {spread:.3g} would explain it"
        )
    elif how == "maybe":
        message = (
            f"{stated}: nothing stands out of the residual, but measurements are too few to tell noise from a wrong "
            f"matrix; give more, or noise_std if this is noise: {spread:.3g} or so"
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


class _Problem:
    """min ‖M(Z) − y‖ as `continuation` wants it: forward, adjoint, inner products, and what counts as explained."""

    def __init__(self, M, y, shape, hermitian, rng):
        self.rng, self._last, self.psd, self.noise_std = rng, (None, None), False, None
        # What a search has spent and seen; its weighted problems share it.
        self.meter = SimpleNamespace(products=0.0, most=math.inf, residuals=[], stopped=False, bar=None, callback=None)
        self._forward, self._adjoint, self.y, self.shape, *found = given(M, y, shape)
        self.unit, self.unit_matrix, self.dtype = found
        xp = array_namespace(self.y)
        square = self.shape[0] == self.shape[1]
        self.hermitian = square if hermitian is None else _flag("hermitian", hermitian)
        if self.hermitian and not square:
            raise ValueError(f"hermitian = True with matrices of shape {self.shape}: must be square")
        self.real = not xp.isdtype(self.y.dtype, "complex floating")
        self.field = 1 if xp.isdtype(self.dtype, "real floating") else 2
        self.total = self.inner(self.y, self.y)
        self.eps = float(xp.finfo(self.y.dtype).eps)
        self.exact = (1e-10 if self.eps < 1e-10 else 1e-5) ** 2 * self.total
        seen = self._probe()
        # Rows that see nothing, as a mask's zeros, are no measurements. Complex numbers are two each.
        self.rows = int(xp.sum(xp.astype(seen != 0, xp.int64)))
        self.count = self.rows * (1 if self.real else 2)

    def _probe(self):
        """M of a random matrix; ValueError unless M is linear and the adjoint is one, to rounding."""
        Z, other = (self._random(self.shape, self.dtype) for _ in range(2))
        if self.hermitian:
            Z, other = sym(Z), sym(other)
        w = self._random(self.y.shape, self.y.dtype)
        seen, together = self.forward(Z), self.forward(Z + other)
        size = math.sqrt(self.inner(together, together))
        gap = together - seen - self.forward(other)
        if not math.sqrt(self.inner(gap, gap)) <= 1e4 * self.eps * size:
            raise ValueError("M(Z + Z') is not M(Z) + M(Z') for random matrices: must be linear; see `forward`")
        there, here = self.inner(seen, w), float(inner(Z, self.adjoint(w))[0, 0])
        if not abs(there - here) <= 1e4 * self.eps * size * math.sqrt(self.inner(w, w)):
            raise ValueError(
                f"⟨M(Z), w⟩ = {there:.4g} and ⟨Z, M*(w)⟩ = {here:.4g} for random Z and w: must agree; M*(w) is "
                "Σ w_i M_i, with M_i and not its conjugate, and M(Z)_i = tr(M_iᴴ Z)"
            )
        self.meter.products = 0.0
        return seen

    def _random(self, shape, dtype):
        xp = array_namespace(self.y)
        x = self.rng.standard_normal((2, *shape))
        return xp.astype(xp.asarray(x[0] + 1j * x[1] if xp.isdtype(dtype, "complex floating") else x[0]), dtype)

    def forward(self, Z):
        """M(Z) (n,)."""
        self.meter.products += 0.5
        w = self._forward(Z)
        return array_namespace(w).real(w) if self.real and is_complex(w.dtype) else w

    def adjoint(self, w):
        """M*(w) (p, q), its Hermitian part where A is Hermitian; asked twice in a row for one w it is kept."""
        if self._last[0] is not w:
            self.meter.products += 0.5
            E = self._adjoint(w)
            self._last = w, sym(E) if self.hermitian else E
        return self._last[1]

    def inner(self, v, w):
        """Re Σ v̄ w."""
        xp = array_namespace(v)
        return float(xp.vecdot(v, w) if self.real else xp.real(xp.vecdot(v, w)))

    def signs(self):
        """Random signs (n,)."""
        return self._there(self.rng.choice([-1.0, 1.0], self.y.shape[0]))

    def weighted(self):
        """The same problem, its measurements weighted at random: w_i > 0, the mean of w_i² being 1."""
        w = np.exp(SPREAD * self.rng.standard_normal(self.y.shape[0]))
        w, other = self._there(w / math.sqrt(np.mean(w**2))), copy.copy(self)
        forward, adjoint = self._forward, self._adjoint
        other.y, other._last = w * self.y, (None, None)
        other._forward, other._adjoint = (lambda Z: w * forward(Z)), (lambda v: adjoint(w * v))
        other.total = self.inner(other.y, other.y)
        other.exact = self.exact * other.total / self.total
        return other

    def _there(self, w):
        """w (n,), real, as an array where y is, of its precision."""
        xp = array_namespace(self.y)
        return xp.asarray(w, dtype=xp.float64 if self.eps < 1e-10 else xp.float32)

    def freedom(self, r):
        return degrees_of_freedom(*self.shape, r, self.hermitian, self.field)

    def spread(self, r, residual):
        """The standard deviation of the noise on a measurement that a residual at rank r tells of; NaN if nothing."""
        free = self.count - self.freedom(r)
        square = self.inner(residual, residual) / self.rows
        return math.sqrt(square * self.count / free) if free > 0 else math.nan

    def skew(self, w):
        """The part of M*(w) (p, q) that is not Hermitian."""
        self.meter.products += 0.5
        E = self._adjoint(w)
        return E - sym(E)

    def within_noise(self, r, residual):
        """Whether the residual is, to three standard errors, no larger than noise_std and the fit leave it."""
        free = self.count - self.freedom(r)
        limit = self.noise_std**2 * (1 + 3 * math.sqrt(2 / free)) if self.noise_std and free > 0 else -1.0
        return self.spread(r, residual) ** 2 <= limit

    def judged(self, r, residual):
        if self.inner(residual, residual) <= self.exact:
            return "exact"
        return "noise" if self.within_noise(r, residual) else ""

    def spent(self):
        return self.meter.stopped or self.meter.products >= self.meter.most

    def report(self, r, residual):
        """Take down a step; show it, and tell the callback."""
        meter = self.meter
        left = math.sqrt(self.inner(residual, residual) / self.total)
        meter.residuals.append(left)
        if meter.bar is not None:
            meter.bar.update(math.ceil(meter.products) - meter.bar.n)
        if meter.callback is not None and meter.callback(r, left, math.ceil(meter.products)) is True:
            meter.stopped = True


def _flag(name, value):
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} = {validate.shown(value)}: must be True or False")
    return bool(value)
