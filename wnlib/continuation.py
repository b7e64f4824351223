"""Rank continuation: from saddle to saddle on purpose, until the measurements are explained.

Weight normalization started small passes by the saddles A_1, A_2, … (Lemma 4.1): on each the part of the gradient along
the range of XΘXᴴ vanishes, and the way out is the leading eigenvector of what is left of it. Here the stops are made
and left on purpose. At rank ℓ the residual is minimised over XΘXᴴ (rectangles: XΘWᴴ); the directions that stand out of
the rest of the gradient are appended; and so on. The rank is thereby found, and no direction is ever sought at random.

The fit is Gauss–Newton on the tangent space by truncated conjugate gradients (RISRO: Luo et al., arXiv 2011.08360;
GNMR: Zilber, Nadler, arXiv 2106.12933), growth along the normal space is Riemannian pursuit (Tan et al. 2014, ICML).
"""

import itertools
import math
from typing import Any, NamedTuple

from wnlib import linalg
from wnlib.backend import array_namespace
from wnlib.linalg import eigh, mH, squared_norm, sym

# A direction is appended beside the first if it stands out of sign-flipped residuals by so much: where measurements
# are few, one at a time finds A far more often than two.
STANDS_OUT = 1.25
# So many flips to judge by where there may be noise: what chance makes of one of them is too often too small.
FLIPS = 3
# A fit ends when the gradient along the tangent space is so small beside what is normal to it: below the largest rank,
# at that rank (where nothing can be appended, and it is stuck), and for the answer.
COARSE, STUCK, FINE = 0.2, 0.01, 1e-3
# Conjugate gradients have converged when their gradient has fallen so far.
UNSEEN = 1e-6
TINY = 1e-300


class Point(NamedTuple):
    """X diag(theta) Wᴴ: X (p, r), W (q, r) with orthonormal columns, theta (r,) real; W is X for Hermitian matrices."""

    X: Any
    theta: Any
    W: Any

    @property
    def matrix(self):
        """X diag(theta) Wᴴ (p, q)."""
        return (self.X * self.theta) @ mH(self.W)

    @property
    def rank(self):
        return self.theta.shape[0]


def origin(E):
    """Return the point of rank 0 beside the gradient E (p, q)."""
    xp = array_namespace(E)
    theta = xp.real(E[0, :0]) if xp.isdtype(E.dtype, "complex floating") else E[0, :0]
    return Point(E[:, :0], theta, mH(E)[:, :0])


def tangent(point, E, hermitian):
    """Return the projection of E (p, q) on the tangent space at `point`: E less its part orthogonal on both sides."""
    X, _, W = point
    if hermitian:
        return linalg.tangent(X, E)
    EW = E @ W
    return X @ (mH(X) @ E) + (EW - X @ (mH(X) @ EW)) @ mH(W)


def retract(point, step, hermitian, psd=False):
    """Return the point of the same rank nearest to point + step (p, q), `step` tangent; psd: negative parts cut off.

    point + step has rank 2r at most: it is decomposed in the span of X and of the step's part outside.
    """
    xp, r = array_namespace(step), point.rank
    Q = _frame(point.X, step @ point.W)
    if hermitian:
        small = mH(Q) @ point.X
        values, V = eigh(sym((small * point.theta) @ mH(small) + mH(Q) @ step @ Q))
        keep = xp.argsort(values if psd else xp.abs(values))[-r:]
        theta = xp.take(values, keep, axis=0)
        X = Q @ xp.take(V, keep, axis=1)
        return Point(X, xp.where(theta < 0, xp.zeros_like(theta), theta) if psd else theta, X)
    R = _frame(point.W, mH(step) @ point.X)
    small = ((mH(Q) @ point.X) * point.theta) @ mH(mH(R) @ point.W) + mH(Q) @ step @ R
    U, theta, Vh = xp.linalg.svd(small, full_matrices=False)
    return Point(Q @ U[:, :r], theta[:r], R @ mH(Vh)[:, :r])


def path(problem, least, limit):
    """Return a point, its residual, and how they were accepted, on the way up from rank 0 to at most `limit`.

    "exact": within the problem's tolerance. Else of rank `least` or more, nothing in the gradient standing out of
    chance, and "noise": no larger than the noise that is known; or, of rank 1 or more and within the budget, "quiet":
    that is not known, measurements abound, and no higher rank that they can settle is exact; "maybe": the same where
    they are few, or the noise that is known is smaller. Or "": not at all.
    """
    residual = -problem.y
    point, quiet = origin(problem.adjoint(residual)), None
    p, q = problem.shape
    while True:
        if problem.inner(residual, residual) <= problem.exact:
            return point, residual, "exact"
        flips = 1 if problem.noise_std == 0 else FLIPS
        grown, after, stands_out = grow(problem, point, residual, max(1, limit - point.rank), flips)
        if stands_out:
            quiet = quiet if problem.noise_std else None  # beyond a noise that is known it would be chance
        elif point.rank >= least:
            if problem.within_noise(point.rank, residual):
                return point, residual, "noise"
            if problem.noise_std != 0 and point.rank and not (quiet or problem.spent()):
                enough = (2 if least == limit else 6) * problem.freedom(point.rank)
                many = problem.noise_std is None and problem.count >= enough
                quiet = point, residual, "quiet" if many else "maybe"
        if quiet and quiet[2] == "quiet":
            # From 4pq measurements on, a remainder of any rank would stand out (see `grow`). From fewer the higher
            # ranks are tried first: all, where more than half of y would be noise.
            share = 1 if 4 * problem.inner(quiet[1], quiet[1]) > problem.total else 2
            if problem.count >= 4 * p * q or share * problem.freedom(point.rank + 1) > problem.count:
                return quiet
            if problem.spent():
                return *quiet[:2], ""  # the higher ranks are not seen
        if point.rank == limit or problem.spent():
            return quiet or (point, residual, "")
        # The last rank is where a path ends that is stuck: it is left when it is seen to be.
        point, residual = fit(problem, grown, after, COARSE if grown.rank < limit else STUCK)


def grow(problem, point, residual, most, flips=1):
    """Return `point` and its residual with new directions, 1 to `most`, and whether the first of them stands out.

    They are the leading eigen- or singular vectors of −E beyond the ranges of X and W, with a step along them that is
    the line's best. What E has of the same size by chance is read off residuals with random signs.
    """
    E = problem.adjoint(residual)
    xp, N = array_namespace(E), E - tangent(point, E, problem.hermitian)
    U, gain, V = _leading(-N, problem, most)
    flipped = [problem.adjoint(residual * problem.signs()) for _ in range(flips)]
    level = max(spectral_norm(F - tangent(point, F, problem.hermitian), 30) for F in flipped)
    count = int(xp.sum(xp.astype(xp.abs(gain) > STANDS_OUT * level + 1e2 * problem.eps * _norm(E), xp.int64)))
    U, gain, V = (x[..., : max(1, count)] for x in (U, gain, V))
    measured = problem.forward((U * gain) @ mH(V))
    t = -problem.inner(residual, measured) / max(problem.inner(measured, measured), TINY)
    point = Point(*(xp.concat(pair, axis=-1) for pair in zip(point, (U, t * gain, V), strict=True)))
    return point, residual + t * measured, count > 0


def fit(problem, point, residual, slack, rounds=200):
    """Return the point of this rank where ‖M(·) − y‖ is least, seen from `point`, and the residual there.

    Ends once the gradient along the tangent space is `slack` times what is normal to it, the residual is within the
    problem's tolerance, its budget is spent, or nothing is gained.
    """
    first = None
    for _ in range(rounds):
        cost = problem.inner(residual, residual)
        if cost <= problem.exact or problem.spent():
            break
        E = problem.adjoint(residual)
        g = tangent(point, E, problem.hermitian)
        size, enough = _norm(g), 0.3 * math.sqrt(problem.exact / cost)
        if size <= slack * spectral_norm(E - g, 6):
            break
        first = first or size
        step = _gauss_newton(problem, point, residual, g, size * max(enough, min(0.25, math.sqrt(size / first))))
        t, lower = 1.0, False
        while t > 1e-3 and not lower:
            there = retract(point, t * step, problem.hermitian, problem.psd)
            after = problem.forward(there.matrix) - problem.y
            lower = problem.inner(after, after) < cost
            t /= 3
        if not lower:
            break
        point, residual = there, after
        problem.report(point.rank, residual)
    return point, residual


def trimmed(problem, point, residual):
    """Return the point without the tiny directions that it is exact without, and its residual: they were in vain."""
    xp, tiny = array_namespace(residual), 1e5 * math.sqrt(problem.exact / problem.total)
    while point.rank > 1:
        size = xp.abs(point.theta)
        if not float(xp.min(size)) <= tiny * float(xp.max(size)):
            break
        fewer = Point(*(xp.take(x, xp.argsort(size)[1:], axis=-1) for x in point))
        fewer, left = fit(problem, fewer, problem.forward(fewer.matrix) - problem.y, FINE)
        if problem.inner(left, left) > problem.exact:
            break
        point, residual = fewer, left
    return point, residual


def doubt(problem, point, residual):
    """Return why a residual that is taken for noise is none, in words; "" where nothing tells.

    Told is what stands out of sign flips: that A is not Hermitian, that it is not positive semidefinite, or, where it
    does not stand out, that y is of a matrix at all.
    """

    def beyond(seen, size, w, flips=FLIPS):
        return seen > STANDS_OUT * max(size(w * problem.signs()) for _ in range(flips))

    def normal(w):
        E = problem.adjoint(w)
        return E - tangent(point, E, problem.hermitian)

    xp, y = array_namespace(residual), problem.y
    seen = _norm(problem.skew(residual)) if problem.hermitian else 0.0
    if seen > 1e4 * problem.eps * _norm(problem.adjoint(residual)) and beyond(
        seen, lambda w: _norm(problem.skew(w)), residual, 20
    ):  # many flips: of a small matrix the skew part has few dimensions
        return "the residual is that of a matrix not Hermitian: give hermitian=False"
    if problem.psd:
        largest = float(xp.max(eigh(sym(normal(residual)))[0]))
        if beyond(largest, lambda w: spectral_norm(normal(w), 30), residual):
            return "the residual is that of a matrix not positive semidefinite: leave psd out, or check the sign of y"
    hardly = 10 * problem.inner(residual, residual) > problem.total
    if hardly and not beyond(spectral_norm(problem.adjoint(y), 30), lambda w: spectral_norm(problem.adjoint(w), 30), y):
        return "no matrix is seen in y: check its order, the shape, and that entries are taken row by row"
    return ""


def unique(problem, point, risk):
    """Whether the measurements tell `point` from its neighbours of the same rank; True too where that stays open.

    A random tangent V is sought from M(V) by conjugate gradients, which find all of it that is seen. If they have
    converged and a part is left, the point can move along it, and its measurements stay. A single unseen dimension
    leaves |N(0, 1)|·‖V‖/√(all dimensions), which is overlooked when it is below `risk` times that. What is seen a
    million times less than the rest counts as unseen.
    """
    V = tangent(point, problem.sample(), problem.hermitian)
    enough = risk * _norm(V) / math.sqrt(max(1, problem.freedom(point.rank)))
    seen = problem.forward(V)
    g = tangent(point, problem.adjoint(seen), problem.hermitian)
    first = float(squared_norm(g))
    for step, square in itertools.islice(_conjugate_gradients(problem, point, seen, g), 1000):
        if _norm(V + step) <= enough:
            break
        if square <= UNSEEN**2 * first:
            return False
    return True


def _gauss_newton(problem, point, residual, g, enough):
    """The tangent step that makes ‖M(step) + residual‖ least, to a gradient of size `enough`."""
    for k, (step, square) in enumerate(_conjugate_gradients(problem, point, residual, g)):
        if k == 200 or (k and (square <= enough**2 or problem.spent())):
            return step
    return step


def _conjugate_gradients(problem, point, residual, g):
    """Yield the tangent steps, from 0 on, that make ‖M(step) + residual‖ least, and ‖gradient‖²; g is the first."""
    step, d, square = 0.0 * g, -g, float(squared_norm(g))
    while True:
        yield step, square
        Md = problem.forward(d)
        curvature = problem.inner(Md, Md)
        if not curvature > 0:
            return
        t = square / curvature
        step, residual = step + t * d, residual + t * Md
        g = tangent(point, problem.adjoint(residual), problem.hermitian)
        before, square = square, float(squared_norm(g))
        d = (square / before) * d - g


def spectral_norm(N, steps):
    """Return ‖N‖₂ of N (p, q) from below, by `steps` of the power method from its largest column."""
    xp = array_namespace(N)
    Nh = mH(N)
    v = N[:, int(xp.argmax(xp.sum(xp.abs(N) ** 2, axis=0)))][:, None]
    for _ in range(steps):
        norm = _norm(v)
        if not norm > 0:
            return 0.0
        w = Nh @ (v / norm)
        v = N @ w
    return _norm(w)


def _leading(N, problem, most):
    """The singular triples U, gain, V of N, largest first, N ≈ U diag(gain) Vᴴ; Hermitian: V = U, gain with signs."""
    xp = array_namespace(N)
    if not problem.hermitian:
        U, gain, Vh = xp.linalg.svd(N, full_matrices=False)
        return U[:, :most], gain[:most], mH(Vh)[:, :most]
    gain, U = eigh(sym(N))
    order = xp.flip(xp.argsort(gain if problem.psd else xp.abs(gain)))[:most]
    gain, U = xp.take(gain, order, axis=0), xp.take(U, order, axis=1)
    return U, gain, U


def _frame(X, Y):
    """Orthonormal columns that span those of X and Y."""
    xp = array_namespace(X)
    return xp.linalg.qr(xp.concat([X, Y - X @ (mH(X) @ Y)], axis=-1))[0]


def _norm(Z):
    return math.sqrt(float(squared_norm(Z)))
