import numpy as np
import pytest
import scipy.stats
import textbook

from wnlib import lockstep, methods, operators, problems
from wnlib.backend import to_numpy
from wnlib.linalg import dim_sym, sym


def draw(kind, m, n, xp, seed=0, stack=None):
    seeds = problems.streams(seed, stack or 1).operator
    return operators.operator(kind, m, n, seeds if stack else seeds[0], xp)


@pytest.mark.parametrize("kind, n", [("population", 1), ("dense", 7), ("dense", 90), ("triangular", 90)])
@pytest.mark.parametrize("stack", [None, 3])
def test_adjoint_and_normal_agree_with_measure(xp, kind, n, stack):
    m, lead = 5, (stack, 2) if stack else (2,)
    rng = np.random.default_rng(1)
    operator = draw(kind, m, n, xp, stack=stack if kind != "population" else None)
    Z = sym(xp.asarray(rng.standard_normal((*lead, m, m))))
    y = operator.measure(Z)
    w = xp.asarray(rng.standard_normal(y.shape))
    left = to_numpy(xp.sum(y * w, axis=-1))
    right = to_numpy(xp.sum(Z * operator.adjoint(w), axis=(-2, -1)))
    np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-12)
    (normal,) = operator.normal(Z)
    np.testing.assert_allclose(to_numpy(normal), to_numpy(operator.adjoint(y)), rtol=1e-11, atol=1e-12)


def test_dense_takes_the_inner_products_of_the_symmetric_matrices_it_stands_for():
    operator = draw("dense", 4, 6, np)
    Ms = textbook.matrices(operator.matrix, 4)
    Z = sym(np.random.default_rng(2).standard_normal((4, 4)))
    np.testing.assert_allclose(operator.measure(Z), [np.sum(M * Z) for M in Ms], rtol=1e-12)
    np.testing.assert_allclose(operator.adjoint(np.arange(6.0)), sum(k * M for k, M in enumerate(Ms)), rtol=1e-12)


def test_several_stacks_in_one_pass_are_each_answered_as_if_alone(xp):
    operator = draw("dense", 4, 3, xp, stack=2)
    rng = np.random.default_rng(3)
    Zs = [sym(xp.asarray(rng.standard_normal((2, *lead, 4, 4)))) for lead in ((), (3,), (2, 2))]
    for together, Z in zip(operator.normal(*Zs), Zs, strict=True):
        np.testing.assert_allclose(to_numpy(together), to_numpy(operator.normal(Z)[0]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("n", [3, 12])  # without and with the matrix of M*M
def test_members_of_a_stack_answer_as_in_it(xp, n):
    operator = draw("dense", 4, n, xp, stack=3)
    Z = sym(xp.asarray(np.random.default_rng(5).standard_normal((3, 4, 4))))
    which = xp.asarray([2, 0])
    few, Z_few = operator.members(which), xp.take(Z, which, axis=0)
    assert few.stack == (2,)
    for whole, part in ((operator.measure(Z), few.measure(Z_few)), (operator.normal(Z)[0], few.normal(Z_few)[0])):
        np.testing.assert_allclose(to_numpy(part), to_numpy(whole)[[2, 0]], rtol=1e-13)


@pytest.mark.parametrize("kind", ["dense", "triangular"])
def test_normal_is_the_identity_on_average(kind):
    m, n, draws = 3, 12, 4000
    operator = draw(kind, m, n, np, stack=draws)
    Z = sym(np.random.default_rng(4).standard_normal((m, m)))
    answers = operator.normal(np.broadcast_to(Z, (draws, m, m)))[0]
    error = answers.mean(axis=0) - Z
    assert np.all(np.abs(error) <= 5 * answers.std(axis=0) / np.sqrt(draws))


def test_triangular_gives_trajectories_the_law_of_the_full_matrix():
    # Law 8: errors along whole trajectories, weight normalization and gradient descent, 300 draws each, near n = d.
    m, r, n, draws = 4, 2, 14, 300
    truth = problems.truth(m, problems.spectrum(1, 1), np.random.default_rng(0))
    A = np.broadcast_to(truth.A, (draws, m, m))
    errors = {}
    for kind, seed in (("dense", 1), ("triangular", 2)):
        seeds = problems.streams(seed, draws)
        operator = operators.operator(kind, m, n, seeds.operator)
        data = operators.data(operator, A, 0.05, seeds.noise)
        start_wn = methods.start_directed(m, r, seeds.start)
        start_gd = methods.start_factored(m, r, seeds.start)
        runs = {
            "wn": lockstep.Run(methods.weight_normalization(0.3, 0.5), start_wn, data, A),
            "gd": lockstep.Run(methods.gradient_descent(0.1), start_gd, data, A),
        }
        traces = lockstep.run(operator, runs, 30, record=[1, 3, 10, 30])
        errors[kind] = {name: trace.squared_error for name, trace in traces.items()}
    for name in ("wn", "gd"):
        for dense, triangular in zip(errors["dense"][name], errors["triangular"][name], strict=True):
            assert scipy.stats.ks_2samp(dense, triangular).pvalue > 1e-3


def test_triangular_rows_have_their_chi_square_diagonal():
    operator = draw("triangular", 2, 5, np, stack=3000)
    R = operator.matrix * np.sqrt(5)
    for i, degrees in enumerate((5, 4, 3)):
        assert scipy.stats.kstest(R[:, i, i] ** 2, scipy.stats.chi2(degrees).cdf).pvalue > 1e-3
    assert np.all(np.tril(R, -1) == 0)
    assert scipy.stats.kstest(R[:, 0, 2], "norm").pvalue > 1e-3


def test_noise_enters_through_the_adjoint_at_the_level_asked_for(xp):
    m, n, S = 6, 400, 40
    seeds = problems.streams(5, S)
    operator = operators.operator("dense", m, n, seeds.operator, xp)
    A = xp.zeros((S, 2, m, m))
    data = operators.data(operator, A, xp.asarray([0.1, 3.0]), seeds.noise)
    # E‖M*(noise)‖² = d s² with entries N(0, 1/n).
    size = np.mean(to_numpy(xp.sum(data * data, axis=(-2, -1))), axis=0)
    np.testing.assert_allclose(size, dim_sym(m) * np.array([0.1, 3.0]) ** 2, rtol=0.15)


def test_noiseless_data_is_M_star_M_of_the_truth():
    operator = draw("triangular", 4, 20, np)
    A = problems.truth(4, [1.0, 0.5], np.random.default_rng(0)).A
    np.testing.assert_allclose(operators.data(operator, A), operator.adjoint(operator.measure(A)), atol=1e-13)


def test_the_residual_form_goes_on_far_below_single_precision():
    """float32 rows, float64 states: Z − A is formed first, so that the product is relative to it at every scale."""
    truth = problems.truth(6, problems.spectrum(2, 2), np.random.default_rng(6))
    start = methods.start_directed(6, 3, np.random.default_rng(7))
    M = operators.lazy(6, 400, np.random.default_rng(0), storage="float32")
    run = lockstep.Run(methods.weight_normalization(1.0), start, None, truth.A)
    assert lockstep.run(M, {"wn": run}, 200)["wn"].squared_error[-1] < 1e-28


def test_an_operator_and_an_input_of_two_backends_are_refused():
    strict = pytest.importorskip("array_api_strict")
    operator = draw("dense", 3, 9, np)
    with pytest.raises(TypeError, match=r"^the operator is an array of numpy and input 0 of"):
        operator.normal(strict.zeros((3, 3), dtype=strict.float64))
