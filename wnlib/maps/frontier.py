"""The frontier of samples: how few Gaussian measurements each method recovers A from. The cells of sample_frontier.

A cell is a few trials of one problem, and all methods are tried on the same data. Recovered is A where every singular
value is: ‖Z − A‖_F ≤ σ_{r_A}/100, within a number of products with M*M.
"""

import math
import warnings

import numpy as np

import wnlib.backend
from wnlib import laws, lockstep, methods, operators, peers, problems, validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import dim_sym, smat, squared_norm, svec
from wnlib.maps.trials import arrivals, members
from wnlib.recovery import recover

NEAR = 0.01  # ‖Z − A‖_F / σ_{r_A}
SYSTEMS = 60  # linear systems that IRLS may solve
WIDER = 2  # columns over r_A where the rank is not told
LAP = 100  # products, after each of which the trials that are decided are dropped


def _driven(step, start):
    """The method whose step is step(n), from start(M*(y), r, rng): it gives the products (trials,), inf for never."""

    def solve(M, A, n, r, rng, products, tolerance):
        b = operators.data(M, A)
        moves, state = step(n), start(b, r, rng)
        each = int(lockstep.run(M, {"": lockstep.Run(moves, state, b, A)}, 1)[""].products[-1])
        every, lap = -(-8 // each), max(1, LAP // each)
        return each * arrivals(M, moves, state, b, A, products // each, tolerance, every, lap)

    return solve


def _random(kind, *scale):
    return lambda b, r, rng: kind(b.shape[-1], r, rng, *scale, xp=array_namespace(b))


def _leading(b, r, rng):
    X = array_namespace(b).linalg.eigh(b)[1][..., -r:]
    return peers.Thresholded(X, 0 * b[..., :r, :r], 0 * b, 0 * b)


def _nothing(b, r, rng):
    return peers.Passed(0 * b, 0 * b, 0 * b[..., :1, :1])


def irls(M, A, n, r, rng, products, tolerance):
    """Return how many systems IRLS (Kümmerle, Sigl 2018, JMLR) solves for each A; inf: SYSTEMS were not enough.

    Z₊ minimises ⟨Z, L⁻¹ZL⁻¹⟩ where M(Z) = y, with L = (Z² + ε²I)^{1/2}, ε = min(ε₋, σ_{r+1}(Z)): it is told r. So
    Z₊ = SVS, S = L^{1/2}, V the least of those with M(SVS) = y. M's matrix (trials, n, d) is needed.
    """
    solved = np.full(A.shape[0], np.inf)
    for trial, (rows, truth) in enumerate(zip(to_numpy(M.matrix), to_numpy(A), strict=True)):
        y, S, eps = rows @ svec(truth), np.eye(M.m), np.inf
        for k in range(SYSTEMS):
            Q, R = np.linalg.qr(svec(S @ smat(rows) @ S).T)
            Z = S @ smat(Q @ np.linalg.solve(R.T, y)) @ S
            if np.sum((Z - truth) ** 2) <= tolerance:
                solved[trial] = k + 1
                break
            values, V = np.linalg.eigh(Z)
            eps = min(eps, np.sort(np.abs(values))[-r - 1])
            S = (V * (values**2 + eps**2) ** 0.25) @ V.T
    return solved


def recovered(M, A, n, r, rng, products, tolerance):
    """Return the products that wnlib.recover spends on each A, told that there is no noise; inf: not found."""
    spent = np.full(A.shape[0], np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what is not found
        for trial in range(A.shape[0]):
            rows, truth = M.matrix[trial, ...], A[trial, ...]
            found = recover(smat(rows), rows @ svec(truth), noise_std=0.0, max_products=products)
            if float(squared_norm(found.matrix - truth)) <= tolerance:
                spent[trial] = found.products
    return spent


# A method is one entry: a function of (M, A, n, r, rng, products, tolerance) that gives the products spent on each A.
METHODS = {
    "PWN1": _driven(lambda n: methods.one_product_weight_normalization(), _random(methods.start_conjugate)),
    "PWN": _driven(lambda n: methods.preconditioned_weight_normalization(mu="exact"), _random(methods.start_directed)),
    "WN": _driven(lambda n: methods.weight_normalization(1.0, 0.5), _random(methods.start_directed)),
    "GD, small start": _driven(lambda n: methods.gradient_descent(0.2), _random(methods.start_factored, 1e-3)),
    "Gauss–Newton": _driven(lambda n: peers.gauss_newton(30), _leading),
    "IRLS": irls,
    "recover": recovered,
    "AMP": _driven(peers.approximate_message_passing, _nothing),
}
TOLD = [name for name in METHODS if name not in ("AMP", "recover")]  # of the rank
UNTOLD = [name for name in METHODS if name != "IRLS"]
ROWS = [(name, True) for name in TOLD] + [(name, False) for name in UNTOLD]
SLOW = ("WN", "GD, small start")  # they need κ² products, or κ: not run where κ² exceeds their budget
# n over the dof, the largest where these are tried: all trials recover A well below.
FROM = {("IRLS", True): 1.35, ("Gauss–Newton", True): 2.0, ("recover", False): 2.0}


def samples(m, r_A, factors):
    """Return the numbers of measurements that are `factors` times A's degrees of freedom, d at most, ascending."""
    dof = laws.degrees_of_freedom(m, r_A)
    return sorted({min(math.ceil(validate.real("factors", f, 1) * dof), dim_sym(m)) for f in factors})


def cells(
    *, m, true_ranks, m_large, true_ranks_large, kappas, factors, trials, trials_large, trials_slow, duels, pairs,
    batch, products, products_slow, seed, backend,
):  # fmt: skip
    """Return the cells (function, parameters, work) for the parameters of sample_frontier.

    For each m, r_A, κ (1 at rank one): `spent` for each batch of `trials`, and `duel` for each of `duels`, n over the
    degrees of freedom, and batch of `pairs`. Raises ValueError or TypeError for parameters out of range.
    """
    counts = {"trials": trials, "trials_large": trials_large, "trials_slow": trials_slow, "pairs": pairs}
    for name, value in {**counts, "batch": batch, "products": products, "products_slow": products_slow}.items():
        validate.integer(name, value, 1)
    here, listed = wnlib.backend.name(wnlib.backend.namespace(backend)), []
    for size, r_A, kappa in settings(m, true_ranks, m_large, true_ranks_large, kappas):
        shared = {"m": size, "r_A": r_A, "kappa": kappa, "products": products, "products_slow": products_slow}
        shared |= {"seed": seed, "backend": here}
        samples(size, r_A, [*factors, *duels])
        count = trials if size == m else trials_large
        for first in range(0, count, batch):
            asked = {"factors": factors, "first": first, "trials": min(batch, count - first), "slow": trials_slow}
            listed.append((spent, shared | asked, 10 * asked["trials"] * r_A * size**3))
        for factor in duels:
            for first in range(0, pairs, batch):
                asked = {"factor": factor, "first": first, "trials": min(batch, pairs - first)}
                listed.append((duel, shared | asked, asked["trials"] * r_A * size**3))
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


def _attempts(m, n, r_A, kappa, first, trials, seed, backend):
    """A function that tries a method on some of the trials: products (members,), −1 where it does not recover A."""
    xp = wnlib.backend.namespace(backend)
    truth, operator, _, _ = (role[first:] for role in problems.streams(seed, first + trials))
    A = problems.truth(m, problems.spectrum(r_A, kappa), truth, xp).A
    M = operators.operator("dense", m, n, operator, xp)

    def attempt(method, told, which, products, products_slow):
        start = problems.streams(seed, first + trials).start[first:]
        budget = products_slow if method in (*SLOW, "recover") else products // 2 if method == "AMP" else products
        r, start = r_A if told else WIDER * r_A, [start[i] for i in which]
        found = METHODS[method](M.members(which), members(A, which), n, r, start, budget, (NEAR / kappa) ** 2)
        return np.where(np.isfinite(found), found, -1)

    return attempt


def spent(*, m, r_A, kappa, factors, first, trials, slow, products, products_slow, seed, backend):
    """Return the products that each of ROWS recovers A with, {"products": row → n → trial}, −1 where it does not.

    Going down the `samples`, a method is tried on the trials that it has recovered A in so far. A smaller n keeps the
    first measurements of a larger one: so is the data's worth monotone, if not every method's luck. SLOW methods are
    tried on the trials before number `slow` only.
    """
    numbers, dof = samples(m, r_A, factors), laws.degrees_of_freedom(m, r_A)
    few = np.arange(max(0, min(trials, slow - first)) if kappa**2 <= products_slow else 0)
    left = {row: few if row[0] in SLOW else np.arange(trials) for row in ROWS}
    found = {row: np.full((len(numbers), which.size), -1.0) for row, which in left.items()}
    for k, n in reversed(list(enumerate(numbers))):
        attempt = _attempts(m, n, r_A, kappa, first, trials, seed, backend)
        for row, which in left.items():
            if which.size and n <= FROM.get(row, math.inf) * dof + 1:
                found[row][k, which] = tried = attempt(*row, which, products, products_slow)
                left[row] = which[tried >= 0]
    return {"products": [each.tolist() for each in found.values()]}


def duel(*, m, r_A, kappa, factor, first, trials, products, products_slow, seed, backend):
    """Return in how many trials recover finds A, and by how many each peer not told the rank leads: {name: number}.

    Where recover finds A no peer can lead, so these are tried where it does not; and one that finds A there, on all
    the others too. 0 stands for a peer that does not lead.
    """
    (n,) = samples(m, r_A, [factor])
    attempt = _attempts(m, n, r_A, kappa, first, trials, seed, backend)

    def hits(method, which):
        return int(np.sum(attempt(method, False, which, products, products_slow) >= 0)) if which.size else 0

    won = attempt("recover", False, np.arange(trials), products, products_slow) >= 0
    counts = {"recover": int(won.sum())}
    for peer in UNTOLD:
        if peer != "recover" and (peer not in SLOW or kappa**2 <= products_slow):
            lead = hits(peer, np.flatnonzero(~won))
            counts[peer] = lead and lead + hits(peer, np.flatnonzero(won)) - counts["recover"]
    return counts
