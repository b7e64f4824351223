"""The frontier of samples: how few Gaussian measurements each method recovers A from. The cells of sample_frontier.

A cell is one problem's trials, and all methods are tried on the same data. Recovered is A where every singular value
is: ‖Z − A‖_F ≤ σ_{r_A}/100, within a number of products with M*M.
"""

import math
import warnings

import numpy as np

import wnlib.backend
from wnlib import laws, lockstep, methods, operators, peers, problems, validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import dim_sym, smat, squared_norm, svec
from wnlib.maps.trials import arrivals, members, single
from wnlib.recovery import recover

NEAR = 0.01  # ‖Z − A‖_F / σ_{r_A}
SYSTEMS = 60  # linear systems that IRLS may solve
WIDER = 2  # columns over r_A where the rank is not told
LAP = 100  # products, after each of which the trials that are decided are dropped


def _driven(step, start):
    """The method whose step is step(n), from start(M*(y), r, rng): it gives the products (trials,), inf for never.

    They are rounded up to the next look at the error: by 7 at most, by 30 for Gauss–Newton, whose step takes 31.
    """

    def solve(M, A, n, r, rng, products, tolerance):
        A = single(A)
        moves, state = step(n), single(start(operators.data(M, A), r, rng))
        each = int(lockstep.run(M, {"": lockstep.Run(moves, state, None, A)}, 1)[""].products[-1])
        every, lap = -(-8 // each), max(1, LAP // each)
        return each * arrivals(M, moves, state, A, products // each, tolerance, every, lap)

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
    Z₊ = SVS, S = L^{1/2}, V the least of those with M(SVS) = y. ε ≥ 1e-7 keeps the systems solvable.
    """
    solved = np.full(A.shape[0], np.inf)
    for trial, (rows, truth) in enumerate(zip(to_numpy(M.matrix).astype(float), to_numpy(A), strict=True)):
        y, rows, S, eps = rows @ svec(truth), smat(rows), np.eye(M.m), np.inf
        for k in range(SYSTEMS):
            B = svec(S @ rows @ S)
            Z = S @ smat(np.linalg.solve(B @ B.T, y) @ B) @ S
            if np.sum((Z - truth) ** 2) <= tolerance:
                solved[trial] = k + 1
                break
            values, V = np.linalg.eigh(Z)
            eps = max(1e-7, min(eps, np.sort(np.abs(values))[-r - 1]))
            S = (V * (values**2 + eps**2) ** 0.25) @ V.T
    return solved


def recovered(M, A, n, r, rng, products, tolerance):
    """Return the products that wnlib.recover spends on each A, told that there is no noise; inf: not found."""
    spent = np.full(A.shape[0], np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of what is not found
        for trial in range(A.shape[0]):
            rows, truth = array_namespace(A).astype(M.matrix[trial, ...], A.dtype), A[trial, ...]
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


def cells(*, m, true_ranks, m_large, true_ranks_large, kappas, factors, duels, trials, lead, products, products_slow,
          seed, backend):  # fmt: skip
    """Return the cells (function, parameters, work) for the parameters of sample_frontier.

    For each m, r_A, κ (1 at rank one): `spent`, and `duel` for each of `duels`, n over the degrees of freedom. Raises
    ValueError or TypeError for parameters out of range.
    """
    for name, value in {"trials": trials, "lead": lead, "products": products, "products_slow": products_slow}.items():
        validate.integer(name, value, 1)
    here, listed = wnlib.backend.name(wnlib.backend.namespace(backend)), []
    for size, r_A, kappa in settings(m, true_ranks, m_large, true_ranks_large, kappas):
        shared = {"m": size, "r_A": r_A, "kappa": kappa, "trials": trials}
        shared |= {"products": products, "products_slow": products_slow, "seed": seed, "backend": here}
        samples(size, r_A, [*factors, *duels])
        work = trials * size * (2 if kappa**2 <= products_slow else 1)
        listed.append((spent, shared | {"factors": factors, "lead": lead}, work))
        listed += [(duel, shared | {"factor": factor}, work / 5) for factor in duels]
    return listed


def settings(m, true_ranks, m_large, true_ranks_large, kappas):
    """Return the list of (m, r_A, κ) that the parameters name."""
    sizes = [(m, r_A) for r_A in true_ranks] + [(m_large, r_A) for r_A in true_ranks_large]
    listed = [(size, r_A, kappa) for size, r_A in sizes for kappa in (kappas if r_A > 1 else [1.0])]
    for size, r_A, kappa in listed:
        problems.require_rank(WIDER * r_A, r_A, size)
        problems.spectrum(r_A, kappa)
    return listed


def _attempts(m, n, r_A, kappa, first, trials, products, products_slow, seed, backend):
    """A function that tries a method on those trials that are `asked`: products (trials,), −1 where A is not found."""
    xp = wnlib.backend.namespace(backend)
    truth, operator, _, _ = problems.streams(seed, trials, first)
    A = problems.truth(m, problems.spectrum(r_A, kappa), truth, xp).A
    M = operators.Dense(single(operators.operator("dense", m, n, operator, xp).matrix))

    def attempt(method, told, asked):
        found, which = np.full(trials, -1.0), np.flatnonzero(asked)
        if which.size:
            r, start = r_A if told else WIDER * r_A, problems.streams(seed, trials, first).start
            budget = products_slow if method in (*SLOW, "recover") else products // 2 if method == "AMP" else products
            given = M.members(which), members(A, which), n, r, [start[i] for i in which]
            spent = METHODS[method](*given, budget, (NEAR / kappa) ** 2)
            found[which] = np.where(np.isfinite(spent), spent, -1)
        return found

    return attempt


def spent(*, m, r_A, kappa, factors, trials, lead, **shared):
    """Return the products that each of ROWS recovers A with, {"products": row → n → trials tried}, −1: it does not.

    Going down the `samples`, a method is tried until it misses A in more than half of the trials: of `lead` at a time,
    until successes and failures are `lead` apart, or of all. A smaller n keeps the first measurements of a larger one,
    so that the data's worth is monotone, if not every method's luck: a trial that has failed counts as failed.
    """
    numbers, dof = samples(m, r_A, factors), laws.degrees_of_freedom(m, r_A)
    found = {row: [[] for _ in numbers] for row in ROWS}
    left = {row: np.ones(trials, bool) for row in ROWS if row[0] not in SLOW or kappa**2 <= shared["products_slow"]}
    for k, n in reversed(list(enumerate(numbers))):
        ahead = {row: 0 for row in left if n <= FROM.get(row, math.inf) * dof + 1}
        for first in range(0, trials, lead):
            undecided = [row for row, by in ahead.items() if abs(by) < lead]
            if undecided:
                attempt = _attempts(m, n, r_A, kappa, first, min(lead, trials - first), **shared)
            for row in undecided:
                outcome = attempt(*row, left[row][first : first + lead])
                left[row][first : first + lead] = outcome >= 0
                ahead[row] += int(np.sum(np.where(outcome < 0, -1, 1)))
                found[row][k] += outcome.tolist()
        left = {row: those for row, those in left.items() if ahead.get(row, 0) >= 0}
    return {"products": list(found.values())}


def duel(*, m, r_A, kappa, factor, trials, **shared):
    """Return in how many trials recover finds A, and by how many each peer not told the rank leads: {name: number}.

    Where recover finds A no peer can lead, so these are tried where it does not; and one that finds A there, on all
    the others too. 0 stands for a peer that does not lead.
    """
    (n,) = samples(m, r_A, [factor])
    attempt = _attempts(m, n, r_A, kappa, 0, trials, **shared)
    won = attempt("recover", False, np.ones(trials)) >= 0
    counts = {"recover": int(won.sum())}
    for peer in UNTOLD:
        if peer != "recover" and (peer not in SLOW or kappa**2 <= shared["products_slow"]):
            lead = np.sum(attempt(peer, False, ~won) >= 0)
            counts[peer] = int(lead and lead + np.sum(attempt(peer, False, won) >= 0) - won.sum())
    return counts
