"""Recovery over measurements n and columns r, and RIP constants from below: the cells of sample_complexity's sweep.

One operator draw serves all ranks of a trial, and the trials of a cell are one batch. Trial i has the same truth and
starts at every n and for every method, and the same draws however many trials run beside it.
"""

import functools
import itertools
import math

import numpy as np

import wnlib.backend
from wnlib import laws, methods, operators, problems, validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import dim_sym, mT, squared_norm
from wnlib.maps.trials import arrivals, single

RECOVERED = 1e-3  # ‖Z − A‖_F / ‖A‖_F
RECORDED = 20  # steps between looks at the error
SURE = 1.96  # standard errors from one half: Wilson's 95% limits leave it out
LOOK = 60  # steps after which the trials that are through leave
POWER_STEPS = 120  # by then the projected power iterations have flattened out


def samples(m, r_A, points):
    """Return `points` numbers of measurements n, geometric, from A's degrees of freedom to 10d, d = m(m+1)/2."""
    low = laws.degrees_of_freedom(m, r_A)
    points = validate.integer("points", points, 2, 10 * dim_sym(m), "so many numbers of measurements there are")
    return sorted({round(n) for n in np.geomspace(low, 10 * dim_sym(m), points)})


def cells(*, m, r_A, ranks, kappas, points, trials, batch, steps_wn, steps_gd, steps_pwn, alpha, rip_ranks, rip_starts,
          seed, backend):  # fmt: skip
    """Return the cells (function, parameters, work) for the parameters of sample_complexity.

    `recoveries` for each method, κ and batch of trials, then `rip` for each n and each of rip_ranks. Raises ValueError
    or TypeError for parameters out of range.
    """
    for r in [*ranks, *rip_ranks]:
        problems.require_rank(r, r_A, m)
    if not set(rip_ranks) <= set(ranks):
        raise ValueError(f"rip_ranks = {rip_ranks}: must be among ranks = {ranks}, whose need δ is read at")
    for kappa in kappas:
        problems.spectrum(r_A, kappa)
    for name, steps in {"steps_wn": steps_wn, "steps_pwn": steps_pwn, "steps_gd": steps_gd}.items():
        if len([validate.integer(name, s, 1) for s in steps]) != len(kappas):
            raise ValueError(f"{name} = {steps}: must be one budget for each of kappas = {kappas}")
    validate.positive("alpha", alpha)
    for label, value in {"trials": trials, "batch": batch, "rip_starts": rip_starts}.items():
        validate.integer(label, value, 1)
    # Resolved: what "auto" is on two machines must not share an address.
    here = wnlib.backend.name(wnlib.backend.namespace(backend))
    budgets = {"WN": steps_wn, "WN, μ = ½": steps_wn, "PWN1": steps_pwn, "GD": steps_gd}
    numbers = samples(m, r_A, points)
    few = len(budgets) * len(kappas) * -(-trials // batch) + len(numbers) * len(rip_ranks)
    wnlib.backend.require_memory(2**12 * few, f"a list of {few} cells", lambda free: "raise batch, lower trials", np)
    shared = {"m": m, "r_A": r_A, "ranks": ranks, "points": points, "alpha": alpha}
    listed, sides = [], {"seed": seed, "backend": here}
    for method, budget in budgets.items():
        for (kappa, steps), first in itertools.product(zip(kappas, budget, strict=True), range(0, trials, batch)):
            asked = {"method": method, "kappa": kappa, "steps": steps, "first": first}
            asked |= {"trials": min(batch, trials - first)}
            products = asked["trials"] * len(ranks) * steps * (1 if method in ("PWN1", "GD") else 2)  # at most
            listed.append((recoveries, shared | asked | sides, products * len(numbers) * dim_sym(m) ** 2 / 4))
    for n in numbers:
        for r in rip_ranks:
            k, rows = min(r + r_A + 1, m), min(n, dim_sym(m) / 2)  # two passes over n×d, or one over d×d
            asked = {"m": m, "n": n, "k": k, "starts": rip_starts} | sides
            listed.append((rip, asked, 2 * rip_starts * POWER_STEPS * rows * dim_sym(m)))
    return listed


def _operator(m, n, generators, xp):
    kind = "triangular" if n >= dim_sym(m) else "dense"
    return operators.operator(kind, m, n, generators, xp)


def recoveries(*, m, r_A, kappa, ranks, points, alpha, method, steps, first, trials, seed, backend):
    """Return how many of `trials` trials from the `first` on recover A within 1e-3 relative error by a method.

    {"recovered": r → n → number} for the `samples` n. From the middle one n goes up until surely more than half of the
    trials recover A, and down until surely less do; beyond, the number is taken to stay. Recovered is ‖Z − A‖_F ≤ 1e-3
    ‖A‖_F at some 20th of the `steps`. Single precision, no noise. Step sizes: WN η = 1, μ = 2 and ½; PWN1 has none; GD
    0.2 from a start of scale `alpha`; the spectrum is linear in 1…1/κ.
    """
    xp, numbers = wnlib.backend.namespace(backend), samples(m, r_A, points)
    draw = functools.partial(problems.streams, seed, trials, first)
    streams = draw()
    sigma = problems.spectrum(r_A, kappa)
    A = single(problems.truth(m, sigma, streams.truth, xp).A)
    directed = {r: single(methods.start_directed(m, r, streams.start, xp)) for r in ranks}
    nothing = xp.zeros_like(A)
    conjugate = {r: methods.Conjugate(*start, nothing, nothing) for r, start in directed.items()}
    small = {r: single(methods.start_factored(m, r, streams.start, alpha, xp)) for r in ranks}
    step, starts = {
        "WN": (methods.weight_normalization(1.0, 2.0), directed),
        "WN, μ = ½": (methods.weight_normalization(1.0, 0.5), directed),
        "PWN1": (methods.one_product_weight_normalization(), conjugate),
        "GD": (methods.gradient_descent(0.2), small),
    }[method]
    tolerance = float(RECOVERED**2 * np.sum(sigma**2))
    drawn = functools.lru_cache(1)(lambda n: operators.Dense(single(_operator(m, n, draw().operator, xp).matrix)))
    found, middle = np.zeros((len(ranks), len(numbers)), int), len(numbers) // 2
    for i in [*range(middle, len(numbers)), *reversed(range(middle))]:
        inner, way = (i - 1, 1) if i > middle else (i + 1, -1)
        for j, r in enumerate(ranks):
            if i != middle and way * (2 * found[j, inner] - trials) > SURE * math.sqrt(trials):
                found[j, i] = found[j, inner]
            else:
                at = arrivals(drawn(numbers[i]), step, starts[r], A, steps, tolerance, RECORDED, LOOK)
                found[j, i] = np.sum(np.isfinite(at))
    return {"recovered": found.tolist()}


def rip(*, m, n, k, starts, seed, backend):
    """Return lower bounds on the RIP constant of one Gaussian operator at rank k, from each of `starts` starts.

    δ_k = max |‖M(Z)‖² − 1| over symmetric Z of rank ≤ k and ‖Z‖_F = 1. Its sides maximise the convex ⟨Z, BZ⟩, with B =
    M*M and B = λI − M*M (λ ≥ ‖M*M‖), and alternating maximisation of ⟨W, BZ⟩ over W and Z, both of rank ≤ k, is
    Z ← P_k(BZ)/‖P_k(BZ)‖, P_k keeping the k eigenvalues largest in size: ⟨Z, BZ⟩ never falls. Starts are random of
    rank k. {"upper": ‖M(Z)‖² − 1, "lower": 1 − ‖M(Z)‖²} where they end, lists; at k = m those are M*M's extremes.
    """
    xp = wnlib.backend.namespace(backend)
    streams = problems.streams(seed, starts)
    M = _operator(m, n, streams.operator[0], xp)
    factor = xp.stack([xp.asarray(g.standard_normal((m, k))) for g in streams.start])
    signs = xp.stack([xp.asarray(g.choice([-1.0, 1.0], (1, k))) for g in streams.start])
    Z = _unit((factor * signs) @ mT(factor))
    sides = {"upper": Z, "lower": Z}
    top = _largest_eigenvalue(M, Z)
    for _ in range(POWER_STEPS):
        up, down = M.normal(sides["upper"], sides["lower"])
        sides = {"upper": _unit(_keep(up, k)), "lower": _unit(_keep(top * sides["lower"] - down, k))}
    up, down = M.normal(sides["upper"], sides["lower"])
    sizes = {"upper": xp.sum(sides["upper"] * up, axis=(-2, -1)), "lower": xp.sum(sides["lower"] * down, axis=(-2, -1))}
    return {"upper": (to_numpy(sizes["upper"]) - 1).tolist(), "lower": (1 - to_numpy(sizes["lower"])).tolist()}


def _largest_eigenvalue(M, Z):
    """A bound on M*M's largest eigenvalue that power iterations from Z come close to."""
    for _ in range(POWER_STEPS):
        (Z,) = M.normal(_unit(Z))
    xp = array_namespace(Z)
    return 1.1 * float(xp.max(xp.sqrt(squared_norm(Z))))


def _unit(Z):
    return Z / array_namespace(Z).sqrt(squared_norm(Z))[..., None, None]


def _keep(Z, k):
    """The symmetric matrices Z (..., m, m) with all but their k eigenvalues largest in size set to zero."""
    xp = array_namespace(Z)
    values, vectors = xp.linalg.eigh(Z)
    size = xp.abs(values)
    least = xp.sort(size, axis=-1)[..., -k][..., None]
    kept = xp.where(size >= least, values, xp.zeros_like(values))
    return (vectors * kept[..., None, :]) @ mT(vectors)
