"""Bad input gets one line that names the parameter, its value and what is allowed, before any work."""

import re
import sys

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from wnlib import backend, laws, lockstep, methods, operators, peers, problems, stiefel
from wnlib.linalg import dim_sym
from wnlib.maps import complexity

m, r, r_A, n, S = 4, 3, 2, 40, 2


def rng():
    return np.random.default_rng(0)


def refused(call, *parts):
    """The message with which `call` refuses, which must be one line and hold all `parts` in this order."""
    with pytest.raises((ValueError, TypeError, MemoryError)) as refusal:
        call()
    line = str(refusal.value)
    assert "\n" not in line and len(line) < 400
    assert re.search(".*".join(map(re.escape, parts)), line), line
    return line


SIMPLE = {
    "r < r_A": (lambda: problems.require_rank(2, 3, 5), "r = 2", "from 3 to 5", "r_A = 3 <= r <= m = 5"),
    "r > m": (lambda: problems.require_rank(6, 3, 5), "r = 6", "from 3 to 5"),
    "r no integer": (lambda: problems.require_rank(3.0, 3, 5), "r = 3.0", "integer"),
    "r_A > m": (lambda: problems.require_rank(6, 6, 5), "r_A = 6", "from 1 to 5"),
    "r > m, WN": (lambda: methods.start_directed(3, 4, rng()), "r = 4", "from 1 to 3"),
    "r > m, GD": (lambda: methods.start_factored(3, 4, rng()), "r = 4", "from 1 to 3"),
    "r < 1": (lambda: stiefel.random(3, 0, rng()), "r = 0", "from 1 to 3"),
    "kappa < 1": (lambda: problems.spectrum(3, 0.5), "kappa = 0.5", ">= 1"),
    "kappa nan": (lambda: problems.spectrum(3, np.nan), "kappa = nan", "finite"),
    "kappa inf": (lambda: problems.spectrum(3, np.inf), "kappa = inf", "finite"),
    "kappa huge": (lambda: problems.spectrum(3, 10**400), "kappa = 1000", "…", "finite"),
    "kappa text": (lambda: problems.spectrum(3, "9"), "kappa = '9'", "finite number >= 1"),
    "kappa with r_A = 1": (lambda: problems.spectrum(1, 5), "kappa = 5 with r_A = 1", "must be 1"),
    "spectrum kind": (
        lambda: problems.spectrum(3, 5, "geometrical"),
        "kind = 'geometrical'",
        "did you mean 'geometric'?",
    ),
    "m < 1": (lambda: problems.truth(0, [1.0], rng()), "m = 0", ">= 1"),
    "sigma too long": (lambda: problems.truth(2, [1.0, 0.5, 0.2], rng()), "r_A = 3", "from 1 to 2"),
    "sigma rises": (lambda: problems.truth(3, [0.5, 1.0], rng()), "sigma = [0.5, 1.0]", "decreasing"),
    "sigma zero": (lambda: problems.truth(3, [1.0, 0.0], rng()), "sigma = [1.0, 0.0]", "positive"),
    "sigma nan": (lambda: problems.truth(3, [np.nan], rng()), "sigma = [nan]", "finite"),
    "sigma empty": (lambda: problems.truth(3, [], rng()), "sigma = []", "(r_A,) or (K, r_A)"),
    "sigma ragged": (lambda: problems.truth(3, [[1, 0.5], [1]], rng()), "sigma = [[1, 0.5], [1]]", "numbers"),
    "sigma complex": (lambda: problems.truth(3, [1j], rng()), "sigma = [1j]", "numbers"),
    "seed": (lambda: problems.streams(-1, 3), "seed = -1", ">= 0"),
    "seed none": (lambda: problems.streams(None, 3), "seed = None", ">= 0"),
    "trajectories": (lambda: problems.streams(0, 0), "trajectories = 0", ">= 1"),
    "first": (lambda: problems.streams(0, 1, -1), "first = -1", ">= 0"),
    "rng of truth": (lambda: problems.truth(3, [1.0], 0), "rng = 0", "numpy.random.Generator"),
    "rng of WN": (lambda: methods.start_directed(3, 2, None), "rng = None", "numpy.random.Generator"),
    "rng of GD": (lambda: methods.start_factored(3, 2, [0]), "rng = [0]", "numpy.random.Generator"),
    "retraction": (
        lambda: methods.weight_normalization(1, 2, "poler"),
        "retraction = 'poler'",
        "did you mean 'polar'?",
    ),
    "backend": (lambda: backend.namespace("numpi"), "backend = 'numpi'", "did you mean 'numpy'?"),
    "matrix 1-d": (lambda: operators.Dense(np.ones(3)), "matrix has shape (3,)", "must be"),
    "matrix columns": (lambda: operators.Dense(np.ones((2, 5))), "matrix has 5 columns", "d = m(m+1)/2"),
    "matrix nan": (
        lambda: operators.Dense(np.full((2, 6), np.nan)),
        "matrix has entries that are NaN",
        "must be finite",
    ),
    "matrix integer": (lambda: operators.Dense(np.ones((2, 6), int)), "matrix has dtype int64", "float32 or float64"),
    "damping of PWN": (lambda: methods.preconditioned_weight_normalization(damping=-0.1), "damping = -0.1", ">= 0"),
    "damping of PWN1": (lambda: methods.one_product_weight_normalization(np.nan), "damping = nan", "finite", ">= 0"),
    "mu of PWN": (lambda: methods.preconditioned_weight_normalization(1, "exakt"), "mu = 'exakt'", "or 'exact'"),
    "m of PWN1": (lambda: methods.start_conjugate(3, 4, rng()), "r = 4", "from 1 to 3"),
    "tail at r = r_A": (lambda: laws.gd_tail(9, 5, 3, 3, 0.1), "r = 3", ">= 4", "no such tail"),
    "tail m < r_A": (lambda: laws.gd_tail(9, 2, 5, 3, 0.1), "m = 2", ">= 3"),
    "tail t": (lambda: laws.gd_tail([0, 1], 5, 4, 3, 0.1), "t = [0, 1]", "> 0"),
    "floor n": (lambda: laws.noise_floor(5, 3, 2, 10, 1.0), "n = 10", ">= 12"),
}


@pytest.mark.parametrize("case", SIMPLE.values(), ids=SIMPLE.keys())
def test_a_setting_out_of_range_is_refused(case):
    refused(*case)


@pytest.mark.parametrize(
    "value", [0, -1, -0.0, np.nan, np.inf, -np.inf, "1", None, True, [1.0], np.ones(2), 1j, 10**400]
)
@pytest.mark.parametrize(
    "name, use",
    [
        ("eta", lambda value: methods.weight_normalization(value)),
        ("mu", lambda value: methods.weight_normalization(1.0, value)),
        ("eta", lambda value: methods.gradient_descent(value)),
        ("eta", lambda value: peers.scaled_gradient_descent(value, 0.1)),
        ("damping", lambda value: peers.scaled_gradient_descent(0.5, value)),
        ("eta", lambda value: peers.preconditioned_gradient_descent(value)),
        ("damping", lambda value: peers.preconditioned_gradient_descent(0.5, value)),
        ("eta", lambda value: peers.approximate_gauss_newton(value)),
        ("eta", lambda value: peers.iterative_hard_thresholding(value)),
        ("eta", lambda value: methods.preconditioned_weight_normalization(value)),
        ("mu", lambda value: methods.preconditioned_weight_normalization(1.0, value)),
        ("eta", lambda value: laws.contraction([1.0], value)),
        ("eta", lambda value: laws.escape_times(np.eye(1), [1.0], value)),
        ("eta", lambda value: laws.gd_tail(9, 5, 4, 3, value)),
        ("eta", lambda value: laws.gd_small_start([1], np.ones((2, 1)), np.ones((2, 1)), value)),
        ("scale", lambda value: methods.start_factored(3, 2, rng(), value)),
    ],
)
def test_step_sizes_and_scales_are_positive_and_finite(name, use, value):
    refused(lambda: use(value), f"{name} = ", "must be a finite number > 0")


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf, "0", None, True])
@pytest.mark.parametrize(
    "step", [lambda b: peers.iterative_hard_thresholding(1.0, b), peers.normalized_iterative_hard_thresholding]
)
def test_momentum_is_finite_and_not_negative(step, value):
    refused(lambda: step(value), "momentum = ", "must be a finite number >= 0")


@settings(max_examples=100, deadline=None)
@given(rank=st.integers(-2, 8), rank_A=st.integers(-2, 8), size=st.integers(-2, 8))
def test_every_rank_that_cannot_hold_the_truth_is_refused_and_no_other(rank, rank_A, size):
    if 1 <= rank_A <= rank <= size:
        assert problems.require_rank(rank, rank_A, size) == rank
    else:
        line = refused(lambda: problems.require_rank(rank, rank_A, size), " = ", "must be")
        assert line.split(" = ")[0] in ("r", "r_A", "m")


# --- operators -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", operators.OPERATORS)
@pytest.mark.parametrize(
    "name, value", [("m", 0), ("m", -3), ("m", 2.0), ("m", "9"), ("n", 0), ("n", -1), ("n", 1.5), ("n", None)]
)
def test_an_operators_size_is_positive_and_whole(kind, name, value):
    size = {"m": 4, "n": 10} | {name: value}
    refused(lambda: operators.operator(kind, rng=rng(), **size), f"{name} = {value!r}", "must be an integer >= 1")


@pytest.mark.parametrize("kind", ["dence", "Triangular", None, 3, "cupy"])
def test_an_unknown_operator_is_refused(kind):
    names = ", ".join(map(repr, operators.OPERATORS))
    line = refused(lambda: operators.operator(kind, 3, 9, rng()), f"operator = {kind!r}", names)
    near = {"dence": "'dense'", "Triangular": "'triangular'"}.get(kind)
    assert line.endswith(f"; did you mean {near}?" if near else names)


@pytest.mark.parametrize("bad", [None, 0, [], [0], (np.random.default_rng(0),), np.random])
@pytest.mark.parametrize("kind", [kind for kind in operators.OPERATORS if kind != "population"])
def test_an_operator_is_drawn_from_generators_only(kind, bad):
    refused(
        lambda: operators.operator(kind, 4, 10, bad), "rng = ", "must be a numpy.random.Generator or a list of them"
    )


def test_the_triangular_operator_needs_as_many_measurements_as_dimensions():
    refused(lambda: operators.triangular(4, 9, rng()), "n = 9 < d = 10", "must be n >= d; use operator = 'dense'")
    assert operators.triangular(4, 10, rng()).matrix.shape == (10, 10)


@pytest.mark.parametrize("kind", ["cosine", "entries"])
def test_there_are_only_d_coordinates_to_sample(kind):
    refused(
        lambda: operators.operator(kind, 3, 7, rng()), "n = 7", "must be at most 6", "operator = 'dense' takes any n"
    )
    assert operators.operator(kind, 3, 6, rng()).m == 3


def test_a_block_lies_within_its_matrix():
    for split in (0, 5, 2.0):
        refused(lambda split=split: operators.cosine(5, 3, rng(), split=split), f"split = {split}", "from 1 to 4")
    refused(lambda: operators.cosine(5, 7, rng(), split=2), "n = 7", "must be at most 6")


MATRIX_FREE = {"rank-one": "rank_one", "cosine": "cosine", "entries": "entries"}  # kind → module


@pytest.mark.parametrize("kind", MATRIX_FREE)
def test_a_structured_operator_refuses_what_it_cannot_take(kind):
    operator = operators.operator(kind, 4, 9, [rng(), rng()])
    refused(lambda: operator.measure(np.ones((2, 3, 3))), "Z has shape (2, 3, 3)", "must be (..., 4, 4)")
    refused(lambda: operator.measure(np.eye(4)), "input has leading shape ()", "operator's stack (2,)")
    refused(lambda: operator.adjoint(np.ones((2, 3))), "w has 3 measurements", "must be")


@pytest.mark.parametrize("kind", MATRIX_FREE)
def test_a_structured_operator_beyond_memory_is_refused_with_a_size_that_fits(kind, monkeypatch):
    monkeypatch.setattr(backend, "available_memory", lambda xp: 2**30)
    line = refused(
        lambda: operators.operator(kind, 10**6, 1000, rng()), f"operator {kind!r} with m = 1000000", "would fit"
    )
    fits = int(re.search(r"m = (\d+) would fit", line)[1])
    module = sys.modules[f"wnlib.operators.{MATRIX_FREE[kind]}"]  # the package's attribute may be its function
    monkeypatch.setattr(module, "drawn", lambda *arguments: np.ones((1, 1)))
    operators.operator(kind, fits, 1000, rng())
    refused(lambda: operators.operator(kind, fits + 1, 1000, rng()), "1 GiB are free")


@pytest.fixture
def little_memory(monkeypatch):
    """16 GiB, so the tests' outcome does not depend on the machine, and nothing large is ever drawn."""
    monkeypatch.setattr(backend, "available_memory", lambda xp: 16 * 2**30)

    def drawn(rng, xp, draw):
        raise AssertionError("allocated")

    monkeypatch.setattr(sys.modules["wnlib.operators.dense"], "drawn", drawn)


def test_what_does_not_fit_is_refused_with_the_need_and_a_way_out(little_memory):
    line = refused(
        lambda: operators.operator("dense", 300, 50_000, rng()), "m = 300, n = 50000", "needs 16.8 GiB and 16 GiB are"
    )
    assert line.endswith("operator = 'lazy' has the same law and holds the rows that are asked for")


@pytest.mark.parametrize("kind, size, count", [("dense", 400, 90_000), ("dense", 10**9, 5), ("triangular", 600, 10**9)])
@pytest.mark.parametrize("seeds", [1, 7])
def test_the_advised_size_fits_and_one_more_does_not(little_memory, kind, size, count, seeds):
    generators = [rng()] * seeds if seeds > 1 else rng()
    line = refused(lambda: operators.operator(kind, size, count, generators), f"m = {size}", "are free", "would fit")
    assert ("fewer seeds" in line) == (seeds > 1)
    fits = int(re.search(r"m = (\d+) would fit", line)[1])
    assert fits < size
    with pytest.raises(AssertionError, match="allocated"):  # it would go ahead
        operators.operator(kind, fits, count, generators)
    refused(lambda: operators.operator(kind, fits + 1, count, generators), "are free")


@pytest.mark.parametrize("size", [10**6, 10**9, 10**30, 10**200])
def test_sizes_beyond_any_memory_are_refused_without_allocating(little_memory, size):
    refused(lambda: operators.operator("dense", size, 10, rng()), "operator 'dense' with m = 1000", "GiB", "would fit")
    refused(
        lambda: operators.operator("triangular", size, 10**999, rng()),
        "operator 'triangular' with m = 1000",
        "would fit",
    )
    line = refused(lambda: problems.truth(size, [1.0], rng()), "truth with m = 1000", "16 GiB are free", "would fit")
    assert 2 * 8 * int(re.search(r"m = (\d+) would fit", line)[1]) ** 2 <= 16 * 2**30


@pytest.mark.parametrize(
    "allocate, name",
    [
        (lambda: problems.streams(0, 10**9), "trajectories = 1000000000"),
        (lambda: laws.random_alignment(30, 5, 3, 10**9, rng()), "draws = 1000000000"),
        (lambda: complexity.samples(20, 3, 10**9), "points = 1000000000"),
        (lambda: complexity.cells(**dict(SWEEP, trials=10**9, batch=1)), "raise batch, lower trials"),
    ],
)
def test_counts_beyond_memory_are_refused_before_anything_grows(little_memory, allocate, name):
    refused(allocate, name)


SWEEP = {"m": 20, "r_A": 3, "ranks": [4], "kappas": [2.0], "points": 10, "steps_wn": [1], "steps_gd": [1]}
SWEEP |= {"steps_pwn": [1], "alpha": 1.0, "rip_ranks": [4], "rip_starts": 1, "seed": 0, "backend": "numpy"}


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 10**6), count=st.integers(1, 10**9), free=st.integers(0, 10**12), seeds=st.integers(1, 5))
def test_the_advice_always_fits(size, count, free, seeds):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "available_memory", lambda xp: free)
        patch.setattr(sys.modules["wnlib.operators.dense"], "Dense", lambda matrix: "made")
        patch.setattr(sys.modules["wnlib.operators.dense"], "drawn", lambda *arguments: None)
        generators = [rng()] * seeds
        try:
            assert operators.operator("dense", size, count, generators) == "made"
            assert free >= 8 * seeds * count * dim_sym(size)
        except MemoryError as refusal:
            line = str(refusal)
            assume("free some memory" not in line)
            fits = int(re.search(r"m = (\d+) would fit", line)[1])
            assert operators.operator("dense", fits, count, generators) == "made"


# --- data ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["population", "dense", "triangular"])
def problem(request):
    seeds = problems.streams(0, S)
    truth = problems.truth(m, np.stack([problems.spectrum(r_A, kappa) for kappa in (2.0, 3.0)]), seeds.truth)
    operator = operators.operator(request.param, m, n, seeds.operator)
    return operator, truth.A, operators.data(operator, truth.A), seeds


@pytest.mark.parametrize(
    "spoil, parts",
    [
        (lambda A: A.tolist(), ("A is a list", "must be an array of shape (..., 4, 4)")),
        (lambda A: A.astype(int), ("A has dtype int64", "float32 or float64")),
        (lambda A: A + 0j, ("A has dtype complex128", "float32 or float64")),
        (lambda A: A.astype("f2"), ("A has dtype float16", "float32 or float64")),
        (lambda A: A * np.nan, ("A has entries that are NaN", "must be finite")),
        (lambda A: A[..., :3, :3], ("A has shape (2, 2, 3, 3)", "must be (..., 4, 4)")),
        (lambda A: A[0, 0, 0], ("A has shape (4,)", "must be (..., 4, 4)")),
        (lambda A: A[:0], ("A has shape (0, 2, 4, 4)", "none of them empty")),
        (np.triu, ("A is not symmetric", "linalg.sym")),
    ],
)
def test_a_matrix_that_cannot_be_measured_is_refused(problem, spoil, parts):
    operator, A, _, _ = problem
    refused(lambda: operators.data(operator, spoil(A)), *parts)


@pytest.mark.parametrize(
    "noise_std", [-1.0, np.nan, np.inf, "1", None, [0.1], np.array([-0.1, 1]), np.array([np.nan, 1])]
)
def test_a_noise_level_is_finite_and_not_negative(problem, noise_std):
    operator, A, _, seeds = problem
    refused(
        lambda: operators.data(operator, A, noise_std, seeds.noise), "noise_std = ", "must be", "finite number", ">= 0"
    )


def test_noise_levels_fit_the_data_and_noise_has_one_generator_for_each_operator(problem):
    operator, A, clean, seeds = problem
    if isinstance(operator, operators.Population):
        refused(
            lambda: operators.data(operator, A, 0.1, seeds.noise),
            "noise_std > 0 with the population operator",
            "must be 0",
        )
        np.testing.assert_array_equal(operators.data(operator, A, np.zeros(2)), clean)
        return
    refused(
        lambda: operators.data(operator, A, np.ones(3), seeds.noise), "noise_std has shape (3,)", "broadcast", "(2, 2)"
    )
    refused(lambda: operators.data(operator, A, 0.1), "rng = None", "numpy.random.Generator")
    refused(lambda: operators.data(operator, A, 0.1, seeds.noise[0]), "rng is one generator", "(2,)", "one for each")
    refused(lambda: operators.data(operator, A, 0.1, seeds.noise * 2), "rng is a list of 4", "(2,)", "one for each")
    refused(
        lambda: operators.data(operator, A[:1]), "leading shape (1, 2)", "must begin with the operator's stack (2,)"
    )
    levels = operators.data(operator, A, np.array([0.0, 0.1]), seeds.noise)
    np.testing.assert_array_equal(levels[:, 0], clean[:, 0])
    assert np.all(np.any(levels[:, 1] != clean[:, 1], axis=(-2, -1)))


def test_an_operator_is_given_what_it_can_measure(problem):
    operator, A, _, _ = problem
    refused(lambda: operator.measure(A * np.inf), "Z has entries that are NaN or infinite")
    refused(lambda: operator.measure(A[..., :3, :3]), "Z has shape (2, 2, 3, 3)", "(..., 4, 4)")
    refused(lambda: operator.adjoint(np.ones((2, 7))), " has 7 ", "must be")


# --- runs ------------------------------------------------------------------------------------------------


class Untouched:
    """An operator that must not be asked for anything."""

    def __init__(self, operator):
        self.m, self.stack = operator.m, operator.stack

    def normal(self, *Zs):
        raise AssertionError("work was done")


def ask(problem, spoil=None, step=None, **options):
    """Run weight normalization with some of its Run's fields spoilt, on an operator that must not be used."""
    operator, A, data, seeds = problem
    fields = {
        "step": methods.weight_normalization(0.5),
        "start": methods.start_directed(m, r, seeds.start),
        "data": data,
        "truth": A,
    }
    fields |= spoil(fields) if spoil else {}
    return lockstep.run(Untouched(operator), {"wn": lockstep.Run(**fields)}, 5 if step is None else step, **options)


RUNS = {
    "data nan": (lambda f: {"data": f["data"] * np.nan}, "data of run 'wn' has entries that are NaN"),
    "data dtype": (lambda f: {"data": f["data"].astype(int)}, "data of run 'wn' has dtype int64", "float64"),
    "data a list": (lambda f: {"data": [1.0]}, "data of run 'wn' is a list", "must be an array"),
    "data m": (lambda f: {"data": f["data"][..., :3, :3]}, "data of run 'wn' has shape", "(..., 4, 4)"),
    "data asymmetric": (lambda f: {"data": np.triu(f["data"])}, "data of run 'wn' is not symmetric"),
    "data empty": (lambda f: {"data": f["data"][:0]}, "data of run 'wn' has shape (0, 2, 4, 4)", "none of them empty"),
    "truth nan": (lambda f: {"truth": f["truth"] * np.nan}, "truth of run 'wn' has entries that are NaN"),
    "truth m": (lambda f: {"truth": f["truth"][..., :3, :3]}, "truth of run 'wn' has shape", "(..., 4, 4)"),
    "truth batch": (
        lambda f: {"truth": np.tile(f["truth"], (2, 1, 1, 1))},
        "truth of run 'wn' has leading shape (4, 2)",
        "(2, 2)",
    ),
    "start nan": (
        lambda f: {"start": f["start"]._replace(X=f["start"].X * np.nan)},
        "X of run 'wn' has entries that are NaN",
    ),
    "start m": (
        lambda f: {"start": methods.start_directed(5, r, [rng()] * S)},
        "estimate of run 'wn' has shape (2, 2, 5, 5)",
        "(..., 4, 4)",
    ),
    "start batch": (
        lambda f: {"start": methods.start_directed(m, r, [rng()] * 3)},
        "X of run 'wn' has leading shape (3,)",
        "(2, 2)",
    ),
    "start misfit": (
        lambda f: {"start": f["start"]._replace(Theta=np.ones((S, 2, 2)))},
        "start of run 'wn', a Directed, is none that its step takes",
    ),
    "start field": (
        lambda f: {"start": f["start"]._replace(Theta=None)},
        "Theta of run 'wn' is a NoneType",
        "must be an array",
    ),
    "start kind": (
        lambda f: {"start": methods.start_factored(m, r, [rng()] * S)},
        "start of run 'wn', a Factored, is none that its step takes",
    ),
    "start kind, GD": (
        lambda f: {"step": methods.gradient_descent(0.1)},
        "start of run 'wn', a Directed, is none that its step takes",
    ),
    "start none": (lambda f: {"start": None}, "start of run 'wn', a NoneType, is none that its step takes"),
    "observe": (
        lambda f: {"observe": {"squared_error": lambda state, E: E}},
        "observe of run 'wn' has 'squared_error'",
        "must not",
    ),
}


@pytest.mark.parametrize("case", RUNS.values(), ids=RUNS.keys())
def test_a_run_whose_parts_do_not_fit_is_refused_before_any_work(problem, case):
    spoil, *parts = case
    refused(lambda: ask(problem, spoil), *parts)


@pytest.mark.parametrize(
    "options, parts",
    [
        ({"step": 0}, ("steps = 0", "from 1 to")),
        ({"step": -1}, ("steps = -1", "from 1 to")),
        ({"step": 2.5}, ("steps = 2.5", "integer")),
        ({"step": 10**400}, ("steps = 1000", "integer")),
        ({"tolerance": -1}, ("tolerance = -1", ">= 0")),
        ({"tolerance": np.nan}, ("tolerance = nan", "finite")),
        ({"record": []}, ("record = []", "from 0 to steps = 5")),
        ({"record": [-1, 3]}, ("record = [-1, 3]", "from 0 to steps = 5")),
        ({"record": [6]}, ("record = [6]", "from 0 to steps = 5")),
        ({"record": [1.5]}, ("record = [1.5]", "integers")),
        ({"record": [10**30]}, ("record = [1000", "integers")),
        ({"record": "all"}, ("record = 'all'", "integers")),
    ],
)
def test_a_schedule_that_cannot_be_kept_is_refused_before_any_work(problem, options, parts):
    refused(lambda: ask(problem, **options), *parts)


def test_data_must_begin_with_the_operators_stack(problem):
    if problem[0].stack:
        refused(
            lambda: ask(problem, lambda f: {"data": f["data"][0, 0]}),
            "leading shape ()",
            "must begin with the operator's stack, (2,)",
        )


@pytest.mark.parametrize("runs", [{}, None, [], [1], {"wn": 1}])
def test_runs_are_named_runs(problem, runs):
    refused(
        lambda: lockstep.run(Untouched(problem[0]), runs, 5),
        "runs = ",
        "must be a dict from names to Run, at least one",
    )


def test_an_operator_is_one(problem):
    refused(lambda: lockstep.run("dense", {}, 5), "operator = 'dense'", "must be one of operators'")


@pytest.mark.parametrize("shape", [(), (3,), (2,), (2, 3)])
def test_an_observation_begins_with_the_batch(problem, shape):
    operator, A, data, seeds = problem
    start = methods.start_directed(m, r, seeds.start)
    run = lockstep.Run(methods.weight_normalization(0.5), start, data, A, {"q": lambda state, E: np.ones(shape)})
    refused(lambda: lockstep.run(operator, {"wn": run}, 5), f"observe['q'] of run 'wn' gave shape {shape}", "(2, 2)")


@pytest.mark.parametrize("options", [(0,), (1.5,), (10**400,), (5, 0), (5, 1, -1), (None,)])
def test_a_schedule_has_steps(options):
    refused(lambda: lockstep.schedule(*options), " = ", "must be an integer")


def test_cupy_where_it_is_absent_is_refused_in_one_line():
    try:
        import cupy  # noqa: F401
    except ImportError:
        with pytest.raises(
            RuntimeError, match=r"^backend = 'cupy': CuPy cannot compute here .* use backend = 'numpy'$"
        ):
            backend.namespace("cupy")
    else:
        pytest.skip("CuPy is present")
