"""The frontier of samples: how few Gaussian measurements each method recovers A from. The cells of sample_frontier.

A cell is one method on a few trials of one problem. Recovered is A where every singular value is: ‖Z − A‖_F ≤
σ_{r_A}/100, within a number of products with M*M.
"""

import warnings

import numpy as np

import wnlib.backend
from wnlib import laws, lockstep, methods, operators, peers, problems, validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import dim_sym, smat, squared_norm, svec
from wnlib.recovery import recover

NEAR = 0.01  # ‖Z − A‖_F / σ_{r_A}
SYSTEMS = 60  # linear systems that IRLS may solve
WIDER = 2  # columns over r_A where the rank is not told


def _driven(make):
    """The method whose step and start are make(M*(y), n, r, rng): it gives the products (trials,), inf for never."""

    def solve(M, A, n, r, rng, products, tolerance):
        b = operators.data(M, A)
        step, start = make(b, n, r, rng)
        run = {"": lockstep.Run(step, start, b, A)}
        each = int(lockstep.run(M, run, 1)[""].products[-1])
        steps = max(1, products // each)
        trace = lockstep.run(M, run, steps, record=np.arange(0, steps + 1, -(-8 // each)), tolerance=tolerance)[""]
        return np.where(trace.status == lockstep.Status.CONVERGED, each * trace.ended, np.inf)

    return solve


def _nothing(b):
    return array_namespace(b).zeros_like(b)


def _leading(b, r):
    X = array_namespace(b).linalg.eigh(b)[1][..., -r:]
    return peers.Thresholded(X, 0 * b[..., :r, :r], _nothing(b), _nothing(b))


def irls(M, A, n, r, rng, products, tolerance):
    """Return how many systems MatrixIRLS (Kümmerle, Mayrink Verdun 2021, ICML) solves for each A; inf: not enough.

    Z₊ minimises ⟨Z, L⁻¹ZL⁻¹⟩ where M(Z) = y, with L = |Z| raised to at least ε, ε = min(ε₋, σ_{r+1}(Z)): it is told r.
    So Z₊ = L M*(w) L, where w solves an n×n system. M's matrix (trials, n, d) is needed.
    """
    solved = np.full(A.shape[0], np.inf)
    for trial, (rows, truth) in enumerate(zip(to_numpy(M.matrix), to_numpy(A), strict=True)):
        y, L, eps = rows @ svec(truth), np.eye(M.m), np.inf
        for k in range(SYSTEMS):
            weighted = svec(L @ smat(rows) @ L)
            Z = smat(np.linalg.lstsq(rows @ weighted.T, y, rcond=None)[0] @ weighted)
            if np.sum((Z - truth) ** 2) <= tolerance:
                solved[trial] = k + 1
                break
            values, V = np.linalg.eigh(Z)
            eps = min(eps, np.sort(np.abs(values))[-r - 1])
            L = (V * np.maximum(np.abs(values), eps)) @ V.T
    return solved


def recovered(M, A, n, r, rng, products, tolerance):
    """Return the products that wnlib.recover spends on each A, told that there is no noise; inf: not found."""
    spent = np.full(A.shape[0], np.inf)
    if n <= laws.degrees_of_freedom(M.m, 1):  # it refuses
        return spent
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what is not found
        for trial in range(A.shape[0]):
            own = operators.Dense(M.matrix[trial, ...])
            found = recover(own, own.measure(A[trial, ...]), noise_std=0.0, max_products=products)
            if float(squared_norm(found.matrix - A[trial, ...])) <= tolerance:
                spent[trial] = found.products
    return spent


# A method is one entry: a function of (M, A, n, r, rng, products, tolerance) that gives the products spent on each A.
METHODS = {
    "PWN1": _driven(
        lambda b, n, r, rng: (
            methods.one_product_weight_normalization(),
            methods.start_conjugate(b.shape[-1], r, rng, array_namespace(b)),
        )
    ),
    "PWN": _driven(
        lambda b, n, r, rng: (
            methods.preconditioned_weight_normalization(mu="exact"),
            methods.start_directed(b.shape[-1], r, rng, array_namespace(b)),
        )
    ),
    "WN": _driven(
        lambda b, n, r, rng: (
            methods.weight_normalization(1.0, 0.5),
            methods.start_directed(b.shape[-1], r, rng, array_namespace(b)),
        )
    ),
    "GD, small start": _driven(
        lambda b, n, r, rng: (
            methods.gradient_descent(0.2),
            methods.start_factored(b.shape[-1], r, rng, 1e-3, array_namespace(b)),
        )
    ),
    "Gauss–Newton": _driven(lambda b, n, r, rng: (peers.gauss_newton(30), _leading(b, r))),
    "IRLS": irls,
    "recover": recovered,
    "AMP": _driven(
        lambda b, n, r, rng: (
            peers.approximate_message_passing(n),
            peers.Passed(_nothing(b), _nothing(b), _nothing(b)[..., :1, :1]),
        )
    ),
}
TOLD, UNTOLD = (
    [name for name in METHODS if name not in untold] for untold in (("AMP", "recover"), ("IRLS",))
)  # of the rank
SLOW = ("WN", "GD, small start")  # they need κ² products, or κ: not run where κ² exceeds their budget
PATIENT = (*SLOW, "recover")  # with a budget of their own, products_slow


def samples(m, r_A, points):
    """Return `points` numbers of measurements, geometric, from A's degrees of freedom to four times them, or d."""
    low = laws.degrees_of_freedom(m, r_A)
    return np.unique(np.round(np.geomspace(1.02 * low, min(4 * low, dim_sym(m)), points)).astype(int)).tolist()


def cells(
    *, m, true_ranks, m_large, true_ranks_large, kappas, points, trials, batch, products, products_slow, seed, backend
):
    """Return the cells (function, parameters, work) for the parameters of sample_frontier.

    `least` for each m, r_A, κ (1 at rank one), with r = r_A told and with r = 2r_A, method and batch of trials.
    Raises ValueError or TypeError for parameters out of range.
    """
    counts = {"points": points, "trials": trials, "batch": batch, "products": products, "products_slow": products_slow}
    for name, value in counts.items():
        validate.integer(name, value, 1)
    here, listed = wnlib.backend.name(wnlib.backend.namespace(backend)), []
    for size, r_A, kappa in settings(m, true_ranks, m_large, true_ranks_large, kappas):
        for method, told in [(x, True) for x in TOLD] + [(x, False) for x in UNTOLD]:
            if method in SLOW and kappa**2 > products_slow:
                continue
            for first in range(0, trials, batch):
                asked = {"method": method, "m": size, "r_A": r_A, "r": r_A if told else WIDER * r_A, "kappa": kappa}
                asked |= {"points": points, "first": first, "trials": min(batch, trials - first), "seed": seed}
                asked |= {"products": products_slow if method in PATIENT else products, "backend": here}
                listed.append((least, asked, asked["trials"] * r_A * size**3))
    return listed


def settings(m, true_ranks, m_large, true_ranks_large, kappas):
    """Return the list of (m, r_A, κ) that the parameters name."""
    listed = []
    for size, ranks in ((m, true_ranks), (m_large, true_ranks_large)):
        for r_A in ranks:
            problems.require_rank(WIDER * r_A, r_A, size)
            listed += [(size, r_A, kappa) for kappa in (kappas if r_A > 1 else [1.0])]
    for _, r_A, kappa in listed:
        problems.spectrum(r_A, kappa)
    return listed


def least(*, method, m, r_A, r, kappa, points, first, trials, products, seed, backend):
    """Return the least n from which each trial recovers A, found by bisection: {"least", "products"}, lists.

    "least" is its place in `samples`, their number for none. A smaller n keeps the first measurements of a larger one,
    and a trial is taken to recover from all n above one that it recovers from: so is the data's worth, if not every
    method's luck. "products" are those spent at the first n tried, the middle one, −1 where it failed.
    """
    xp = wnlib.backend.namespace(backend)
    numbers = samples(m, r_A, points)
    low, high, spent = np.zeros(trials, dtype=int), np.full(trials, len(numbers)), None
    while np.any(low < high):
        middle = (low + high) // 2
        for k in np.unique(middle[low < high]):
            members = np.flatnonzero((middle == k) & (low < high))
            role = problems.streams(seed, first + trials)
            truth, operator, start = ([role_[first + i] for i in members] for role_ in role[:3])
            A = problems.truth(m, problems.spectrum(r_A, kappa), truth, xp).A
            M = operators.operator("dense", m, numbers[k], operator, xp)
            found = METHODS[method](M, A, numbers[k], r, start, products, (NEAR / kappa) ** 2)
            spent = found if spent is None else spent
            high[members] = np.where(np.isfinite(found), k, high[members])
            low[members] = np.where(np.isfinite(found), low[members], k + 1)
    return {"least": high.tolist(), "products": np.where(np.isfinite(spent), spent, -1).tolist()}
