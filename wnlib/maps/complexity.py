"""Recovery over measurements n and columns r, and RIP constants from below: the cells of sample_complexity's sweep.

One operator draw serves all methods, ranks and condition numbers of a trial, and the trials of a cell are one batch.
Trial i has the same truth and starts at every n, and the same draws however many trials run beside it.
"""

import numpy as np

import wnlib.backend
from wnlib import laws, methods, operators, problems, validate
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import dim_sym, mT, squared_norm
from wnlib.maps.trials import arrivals

RECOVERED = 1e-3  # ‖Z − A‖_F / ‖A‖_F
RECORDED = 20  # steps between looks at the error
LOOK = 60  # steps after which the trials that are through leave
POWER_STEPS = 120  # by then the projected power iterations have flattened out


def samples(m, r_A, points):
    """Return `points` numbers of measurements n, geometric, from A's degrees of freedom to 10d, d = m(m+1)/2."""
    low = laws.degrees_of_freedom(m, r_A)
    points = validate.integer("points", points, 2, 10 * dim_sym(m), "so many numbers of measurements there are")
    return sorted({round(n) for n in np.geomspace(low, 10 * dim_sym(m), points)})


def cells(
    *, m, r_A, ranks, kappas, points, trials, batch, steps_wn, steps_gd, steps_pwn, alpha, rip_ranks, rip_starts, seed,
    backend,
):  # fmt: skip
    """Return the cells (function, parameters, work) for the parameters of sample_complexity.

    `recover` for each n and each batch of trials, then `rip` for each n and each of rip_ranks. Raises ValueError or
    TypeError for parameters out of range.
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
    shared = {"m": m, "r_A": r_A, "ranks": ranks, "kappas": kappas, "steps": budgets, "alpha": alpha}
    shared |= {"seed": seed, "backend": here}
    products = sum(4 * s for s in steps_wn) + sum(steps_pwn) + sum(steps_gd)  # of one trial and rank, at most
    few = len(samples(m, r_A, points)) * (-(-trials // batch) + len(rip_ranks))
    wnlib.backend.require_memory(2**12 * few, f"a list of {few} cells", lambda free: "raise batch, lower trials", np)
    listed = []
    for n in samples(m, r_A, points):
        rows = min(n, dim_sym(m) / 2)  # a product costs two passes over n×d, or one over d×d
        for first in range(0, trials, batch):
            count = min(batch, trials - first)
            work = count * len(ranks) * products * rows * dim_sym(m)
            listed.append((recover, shared | {"n": n, "first": first, "trials": count}, work))
        for r in rip_ranks:
            k = min(r + r_A + 1, m)
            asked = {"m": m, "n": n, "k": k, "starts": rip_starts, "seed": seed, "backend": here}
            listed.append((rip, asked, 2 * rip_starts * POWER_STEPS * rows * dim_sym(m)))
    return listed


def _operator(m, n, generators, xp):
    kind = "triangular" if n >= dim_sym(m) else "dense"
    return operators.operator(kind, m, n, generators, xp)


def recover(*, m, r_A, n, ranks, kappas, steps, alpha, first, trials, seed, backend):
    """Return which of `trials` trials from the `first` on recover A within 1e-3 relative error, and when.

    {"steps": method → κ → rank → trial: the first step at which ‖Z − A‖_F ≤ 1e-3 ‖A‖_F was recorded, or −1}. Recorded
    are 0 and every 20th step. A trial ends within its budget where it has recovered A, has diverged, or fits the data
    with another matrix, at ‖M*M(Z − A)‖_F ≤ 1e-5 ‖A‖_F. Gradients in the residual form (no noise), which single
    precision serves at every scale; step sizes: WN η = 1, μ = 2 and ½; PWN1 has none; GD 0.2 from a start of scale
    `alpha`; the spectrum is linear in 1…1/κ.
    """
    xp = wnlib.backend.namespace(backend)
    streams = problems.Streams(*(role[first:] for role in problems.streams(seed, first + trials)))
    sigma = np.stack([problems.spectrum(r_A, kappa) for kappa in kappas])
    truth = problems.truth(m, sigma, streams.truth, xp)
    M = operators.Dense(xp.astype(_operator(m, n, streams.operator, xp).matrix, xp.float32))
    A = xp.astype(truth.A, xp.float32)
    single = lambda state: type(state)(*(xp.astype(x, xp.float32) for x in state))  # noqa: E731
    directed = {r: single(methods.start_directed(m, r, streams.start, xp)) for r in ranks}
    nothing = xp.zeros_like(A[:, 0, ...])
    conjugate = {r: methods.Conjugate(*start, nothing, nothing) for r, start in directed.items()}
    small = {r: single(methods.start_factored(m, r, streams.start, alpha, xp)) for r in ranks}
    kinds = {
        "WN": (methods.weight_normalization(1.0, 2.0), directed),
        "WN, μ = ½": (methods.weight_normalization(1.0, 0.5), directed),
        "PWN1": (methods.one_product_weight_normalization(), conjugate),
        "GD": (methods.gradient_descent(0.2), small),
    }

    def arrived(step, start, k, budget):
        tolerance = float(RECOVERED**2 * np.sum(sigma[k] ** 2))
        at = arrivals(M, step, start, None, A[:, k, ...], budget, tolerance, RECORDED, LOOK)
        return np.where(np.isfinite(at), at, -1).astype(int).tolist()

    return {
        "steps": {
            method: [
                [arrived(step, start, k, budget) for start in starts.values()] for k, budget in enumerate(steps[method])
            ]
            for method, (step, starts) in kinds.items()
        }
    }


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
