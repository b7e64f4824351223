"""Every public function that computes on arrays gives on CuPy, and on array-api-strict, what it gives on NumPy.

`CASES` maps each function to a small computation with it; what takes no arrays, or only NumPy's, stands in
`NUMPY_ONLY`. A public function that is in neither fails `test_every_public_function_has_a_case`.
"""

import importlib
import inspect

import array_api_compat.numpy
import numpy as np
import pytest
from test_peers import start_deflated, start_passed

from wnlib import laws, lockstep, methods, operators, peers, problems, stiefel
from wnlib.backend import to_numpy
from wnlib.linalg import inner, mH, mT, sym

MODULES = (
    *("backend", "linalg", "stiefel", "problems", "operators"),
    *("methods", "peers", "lockstep", "laws", "fits"),
)
# Of states and of residual norms, for numbers of size one; the sums are of a few thousand terms at most.
TOLERANCE = {"float64": 1e-10, "float32": 1e-4}

NUMPY_ONLY = {
    "backend": {"namespace", "array_namespace", "common_namespace", "name", "drawn", "available_memory"}
    | {"require_memory", "gib", "processors", "device"},  # of namespaces; see test_backend
    "linalg": {"dim_sym", "degrees_of_freedom", "is_complex"},
    "problems": {"streams", "spectrum", "require_rank"},
    "lockstep": {"schedule"},
    # Laws of numbers, drawn over traces that are NumPy's on every backend.
    "laws": {"contraction", "sampled_decay", "crossing_time", "escape_law", "magnitude_threshold"}
    | {"theorem", "gd_tail", "degrees_of_freedom", "reached_dimensions", "noise_floor", "random_alignment"}
    | {"local_rate", "tangent_bound", "burn_in_bound"},
    "fits": {"line", "between", "exponential", "power_law", "first_below", "band"},  # of traces
}


def public(module):
    found = importlib.import_module(f"wnlib.{module}")
    return {
        name
        for name, function in inspect.getmembers(found, inspect.isfunction)
        if f"{function.__module__}.".startswith(f"{found.__name__}.") and not name.startswith("_")
    }


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def stack(seed=0, r=3):
    """A stack (2, r, r) of well-conditioned symmetric positive definite matrices."""
    G = drawn(2, r, r + 4, seed=seed)
    return G @ mT(G) / r


def frame(m=6, r=3, seed=0):
    return np.linalg.qr(drawn(2, m, r, seed=seed))[0]


def tangent(size=0.3):
    X, G = frame(), drawn(2, 6, 3, seed=1)
    return size * (G - X @ sym(mT(X) @ G))


def alignments():
    """P and Q = I − P (2, 2, 2) and sigma (2,)."""
    U, X = frame(r=2), frame(r=3, seed=3)
    P = (mT(U) @ X) @ mT(mT(U) @ X)
    return P, np.eye(2) - P, np.array([1.0, 0.5])


def rngs(count=2):
    return [np.random.default_rng([5, k]) for k in range(count)]


def call(path, *arrays, **options):
    """A case: the function at `path` of these NumPy arrays, moved to the backend in the case's dtype."""

    def case(xp, dtype):
        module, function = path.split(".")
        there = [xp.asarray(a, dtype=getattr(xp, dtype)) for a in arrays]
        return getattr(importlib.import_module(f"wnlib.{module}"), function)(*there, **options)

    return case


def operator_case(kind, m=4, n=40):
    def case(xp, dtype):
        M = operators.operator(kind, m, n, np.random.default_rng(0), xp)
        Z = xp.asarray(sym(drawn(3, m, m)))
        return [M.measure(Z), M.adjoint(M.measure(Z)), *M.normal(Z, Z[0, ...])]

    return case


def pauli_case(xp, dtype):
    M = operators.pauli(4, 11, rngs(), xp)
    X = xp.asarray(frame(m=4, r=2) + 1j * frame(m=4, r=2, seed=1))
    return [M.measure(X @ mH(X)), M.adjoint(xp.asarray(drawn(2, 3, 11))), *M.normal(X @ mH(X))]


def shots_case(xp, dtype):
    return operators.shots(operators.pauli(4, 11, rngs(), xp), xp.asarray(stack(r=4)) / 40, 30, rngs(), 0.1)


def lazy_case(xp, dtype):
    M = operators.lazy(4, 40, np.random.default_rng(0), xp)
    Z = xp.asarray(sym(drawn(3, 4, 4)))
    return [*M.normal(Z, Z[0, ...]), M.noise(2, np.random.default_rng(1))]


def data_case(xp, dtype):
    M = operators.gaussian(4, 30, rngs(), xp)
    return operators.data(M, xp.asarray(sym(drawn(2, 3, 4, 4))), 0.1, rngs())


def run_case(step, start, steps=20):
    """States and squared errors over some iterations from the same start, data and operator."""

    def case(xp, dtype):
        truth = problems.truth(5, [1.0, 0.6], rngs(), xp)
        M = operators.gaussian(5, 60, rngs(), xp)
        first = start(5, 3, rngs(), xp=xp)
        traces = lockstep.run(M, {"it": lockstep.Run(step, first, operators.data(M, truth.A), truth.A)}, steps)
        return [traces["it"].squared_error, *traces["it"].state, traces["it"].state.estimate]

    return case


def pair_start(m, r, rng, xp):
    (L,) = methods.start_factored(m, r, rng, xp=xp)
    return peers.Paired(L, 0.7 * L)


def ahead_start(m, r, rng, xp):
    (Y,) = methods.start_factored(m, r, rng, xp=xp)
    return peers.Extrapolated(Y, 1.1 * Y)


def zero_start(m, r, rng, xp):
    conjugate = methods.start_conjugate(m, r, rng, xp)
    return peers.Thresholded(conjugate.X, conjugate.Theta, conjugate.W, conjugate.W)


def estimates(case):
    """The first and the last of what the case gives: squared errors and the final estimate."""
    return lambda xp, dtype: (lambda found: [found[0], found[-1]])(case(xp, dtype))


def reduced_any_case(xp, dtype):
    _, Q, sigma = (xp.asarray(a, dtype=getattr(xp, dtype)) for a in alignments())
    Phi = xp.asarray(mT(frame(r=2)) @ frame(r=3, seed=3), dtype=Q.dtype)
    state = laws.Reduced(Phi, xp.asarray(stack(), dtype=Q.dtype), Q)
    return [*laws.reduced_any_step(state, sigma, 0.3), laws.reduced_any_error(state, sigma)]


P, Q, SIGMA = alignments()
WN = methods.weight_normalization(0.5)
CASES = {
    "backend.to_numpy": call("backend.to_numpy", drawn(2, 3)),
    "linalg.mT": call("linalg.mT", drawn(2, 3, 4)),
    "linalg.mH": call("linalg.mH", drawn(2, 3, 4)),
    "linalg.sym": call("linalg.sym", drawn(2, 3, 3)),
    "linalg.eye_like": call("linalg.eye_like", stack()),
    "linalg.trace": call("linalg.trace", stack()),
    "linalg.squared_norm": call("linalg.squared_norm", drawn(2, 3, 4)),
    "linalg.inner": call("linalg.inner", drawn(2, 3, 4), drawn(2, 3, 4, seed=1)),
    "linalg.quotient": call("linalg.quotient", drawn(2, 1, 1), np.array([[[2.0]], [[0.0]]]), otherwise=0.5),
    "linalg.tangent": call("linalg.tangent", frame(r=2), sym(drawn(2, 6, 6))),
    "linalg.svec": call("linalg.svec", stack()),
    "linalg.smat": call("linalg.smat", drawn(2, 10)),
    "linalg.eigh": lambda xp, dtype: list(call("linalg.eigh", stack())(xp, dtype))[:1],  # vectors have no fixed sign
    "linalg.inverse_sqrt": call("linalg.inverse_sqrt", stack()),
    "stiefel.random": lambda xp, dtype: stiefel.random(6, 3, rngs(), xp),
    "stiefel.project": call("stiefel.project", frame(), drawn(2, 6, 3, seed=1)),
    "stiefel.polar": call("stiefel.polar", frame(), tangent()),
    "stiefel.qr": call("stiefel.qr", frame(), tangent()),
    "stiefel.cayley": call("stiefel.cayley", frame(), tangent()),
    "problems.truth": lambda xp, dtype: problems.truth(5, [[1, 0.5], [1, 0.2]], rngs(), xp).A,
    "operators.gaussian": operator_case("dense"),
    "operators.triangular": operator_case("triangular"),
    "operators.operator": operator_case("dense", n=5),
    "operators.lazy": lazy_case,
    "operators.data": data_case,
    "operators.rademacher": operator_case("rademacher"),
    "operators.cosine": operator_case("cosine", n=7),
    "operators.entries": operator_case("entries", n=7),
    "operators.pauli": pauli_case,
    "operators.shots": shots_case,
    "operators.rank_one": operator_case("rank-one"),
    "methods.weight_normalization": run_case(WN, methods.start_directed),
    # Few steps: near A it divides by λ = damping·‖E‖_F, and so multiplies rounding in the spare directions.
    "methods.preconditioned_weight_normalization": run_case(
        methods.preconditioned_weight_normalization(), methods.start_directed, steps=5
    ),
    "methods.one_product_weight_normalization": run_case(
        methods.one_product_weight_normalization(), methods.start_conjugate, steps=5
    ),
    **{
        f"peers.{name}": run_case(getattr(peers, name)(*settings), start, steps=5)
        for name, settings, start in [
            ("scaled_gradient_descent", (0.5, 0.1), methods.start_factored),
            ("preconditioned_gradient_descent", (0.3,), methods.start_factored),
            ("levenberg_marquardt", (0.5, 0.3), methods.start_factored),
            ("polyak_gradient_descent", (0.2, lambda Z, E: inner(Z, Z), 2), methods.start_factored),
            ("momentum_gradient_descent", (0.2, 0.4), ahead_start),
            ("approximate_gauss_newton", (0.5,), pair_start),
            ("recursive_weight_normalization", (0.5, 2), start_deflated),
        ]
    },
    # The eigenvectors' signs are the backend's: errors and estimates only.
    **{
        f"peers.{name}": estimates(run_case(getattr(peers, name)(*settings), zero_start, steps=5))
        for name, settings in [
            ("iterative_hard_thresholding", ()),
            ("normalized_iterative_hard_thresholding", ()),
            ("conjugate_gradient_iterative_hard_thresholding", ()),
            ("gauss_newton", (2,)),
        ]
    },
    "peers.approximate_message_passing": run_case(peers.approximate_message_passing(60), start_passed, steps=5),
    "methods.gradient_descent": run_case(methods.gradient_descent(0.3), methods.start_factored),
    "methods.start_directed": lambda xp, dtype: list(methods.start_directed(5, 3, rngs(), xp)),
    "methods.start_conjugate": lambda xp, dtype: list(methods.start_conjugate(5, 3, rngs(), xp)),
    "methods.start_factored": lambda xp, dtype: list(methods.start_factored(5, 3, rngs(), xp=xp)),
    "lockstep.run": run_case(methods.weight_normalization(0.3, 1.0, "cayley"), methods.start_directed),
    "laws.alignment": call("laws.alignment", frame(r=2), frame(seed=3)),
    "laws.levels": call("laws.levels", P, SIGMA),
    "laws.escape_times": call("laws.escape_times", P, SIGMA, eta=0.5),
    "laws.gd_small_start": lambda xp, dtype: call(
        "laws.gd_small_start", [1.0, 5.0, 100.0], frame(r=2), 0.01 * drawn(2, 6, 4), eta=0.3
    )(xp, dtype),
    "laws.reduced_step": lambda xp, dtype: list(call("laws.reduced_step", P, Q, SIGMA, eta=0.5)(xp, dtype)),
    "laws.burn_in": call("laws.burn_in", P, Q, SIGMA, eta=0.5, limit=200, cut=[0.1, 0.5]),
    "laws.tangents_step": call("laws.tangents_step", stack(), np.array([1.0, 0.7, -0.4]), eta=0.5),
    "laws.reduced_error": call("laws.reduced_error", Q, SIGMA),
    "laws.reduced_any_step": reduced_any_case,
    "laws.reduced_any_error": reduced_any_case,
}


def test_every_public_function_has_a_case():
    listed = set(CASES) | {f"{module}.{name}" for module, names in NUMPY_ONLY.items() for name in names}
    there = {f"{module}.{name}" for module in MODULES for name in public(module)}
    assert there - listed == set(), "no parity case: add one to CASES"
    assert listed - there == set(), "no such function"
    assert not set(CASES) & {f"{module}.{name}" for module, names in NUMPY_ONLY.items() for name in names}


def flat(result):
    return [to_numpy(x) for x in (result if isinstance(result, list) else [result])]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("path", CASES)
def test_parity(path, dtype, other):
    found = flat(CASES[path](other, dtype))
    wanted = flat(CASES[path](array_api_compat.numpy, dtype))
    assert len(found) == len(wanted)
    for x, y in zip(found, wanted, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        scale = max(1.0, float(np.max(np.abs(y))))
        np.testing.assert_allclose(x, y, rtol=0, atol=TOLERANCE[dtype] * scale)
