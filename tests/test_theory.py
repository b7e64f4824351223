"""The laws against measured runs, and the exact identities they rest on."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from wnlib import lockstep, methods, problems, sensing, stiefel, theory
from wnlib.backend import to_numpy
from wnlib.linalg import dim_sym, mT, svec, trace


def population_run(m, r, sigma, seeds, eta, steps, record, with_alignment=False):
    """Weight normalization from random starts, infinitely many samples: (truth, start, trace)."""
    streams = problems.streams(1, seeds)
    truth = problems.truth(m, sigma, streams.truth)
    operator = sensing.operator("population", m, 1, None)
    start = methods.start_directed(m, r, streams.start)
    data = sensing.data(operator, truth.A)
    observe = {"P": lambda state, E: theory.alignment(truth.U, state.X)} if with_alignment else {}
    run = lockstep.Run(methods.weight_normalization(eta), start, data, truth.A, observe)
    return truth, start, lockstep.run(operator, {"wn": run}, steps, record=record)["wn"]


def random_point(m, r, r_A, xp, stack=3):
    streams = problems.streams(2, stack)
    truth = problems.truth(m, problems.spectrum(r_A, 4.0, "geometric"), streams.truth, xp)
    return truth, stiefel.random(m, r, streams.start, xp)


@pytest.mark.parametrize("sigma, eta", [([1.0, 0.5], 0.6), ([1.0, 0.9, 0.4], 0.2), ([1.0, 0.8], 1.7)])
def test_contraction_is_the_measured_rate(sigma, eta):
    _, _, run = population_run(8, 6, sigma, 4, eta, 2500, record=range(2501))
    error = np.sqrt(run.squared_error)
    for s in range(4):
        phase = np.flatnonzero((error[:, s] < 1e-8) & (error[:, s] > 1e-13))
        a, b = phase[0], phase[-1]
        rate = np.log(error[a, s] / error[b, s]) / (run.steps[b] - run.steps[a])
        np.testing.assert_allclose(rate, -np.log(theory.contraction(sigma, eta)), rtol=0.02)


def test_contraction_takes_stacks_of_spectra(xp):
    sigma = xp.asarray([[1.0, 0.5], [1.0, 0.1]])
    np.testing.assert_allclose(theory.contraction(sigma, 0.5), [1 - 0.5 * 0.25, 1 - 0.5 * 0.01])
    np.testing.assert_allclose(theory.contraction(sigma, 1.9), [0.9, 1 - 1.9 * 0.01])


def test_alignment_is_the_squared_cosines_of_the_principal_angles(xp):
    truth, X = random_point(7, 4, 2, xp)
    P = to_numpy(theory.alignment(truth.U, X))
    for U, x, p in zip(to_numpy(truth.U), to_numpy(X), P, strict=True):
        np.testing.assert_allclose(p, U.T @ x @ x.T @ U, atol=1e-15)
        cosines = np.cos(scipy.linalg.subspace_angles(U, x))
        np.testing.assert_allclose(np.linalg.eigvalsh(p)[::-1], np.sort(cosines**2)[::-1], atol=1e-14)
    np.testing.assert_allclose(
        to_numpy(theory.alignment(truth.U, truth.U)), np.broadcast_to(np.eye(2), (3, 2, 2)), atol=1e-14
    )


def test_error_and_gradient_are_those_of_the_reduced_dynamics(xp):
    truth, X = random_point(7, 4, 3, xp)
    A, U, Sigma = truth.A, truth.U, xp.asarray(np.diag(to_numpy(truth.sigma)))
    Theta = mT(X) @ A @ X
    E = X @ Theta @ mT(X) - A
    Q = xp.eye(3) - theory.alignment(U, X)
    SQS = Sigma @ Q @ Sigma
    squared = to_numpy(xp.sum(E * E, axis=(-2, -1)))
    np.testing.assert_allclose(squared, to_numpy(2 * trace(SQS) - trace(SQS @ Q)), rtol=1e-12)
    G = stiefel.project(X, E @ (X @ Theta))
    C = Sigma @ theory.alignment(U, X) @ Sigma
    moved = (xp.eye(7) - X @ mT(X)) @ U @ C @ mT(U) @ X
    np.testing.assert_allclose(to_numpy(-G), to_numpy(moved), atol=1e-14)


def test_escape_times_are_their_definition(xp):
    truth, X = random_point(9, 5, 3, xp)
    P, sigma = theory.alignment(truth.U, X), to_numpy(truth.sigma)
    times = theory.escape_times(P, truth.sigma, 0.3)
    for s in range(3):
        for level in range(3):
            inverse = np.linalg.inv(to_numpy(P)[s, : level + 1, : level + 1])
            np.testing.assert_allclose(times[s, level], inverse[level, level] / (0.6 * sigma[level] ** 2), rtol=1e-10)


@pytest.mark.parametrize("level, eta, steps", [(0, 0.1, 1000), (1, 1.0, 8000)])
def test_escape_times_are_the_measured_ones(level, eta, steps):
    # Well separated levels, m/r = 20, ησ² small: P_ℓℓ passes one half. The slowest seeds, not half, need not arrive.
    m, r, sigma = 60, 3, np.array([1.0, 0.1])
    truth, start, run = population_run(m, r, sigma, 11, eta, steps, range(0, steps + 1, 2), with_alignment=True)
    predicted = theory.escape_times(theory.alignment(truth.U, start.X), sigma, eta)
    learned = run.values["P"][..., level, level] > 0.5
    measured = np.where(learned.any(axis=0), run.steps[np.argmax(learned, axis=0)], np.inf)
    np.testing.assert_allclose(np.median(measured / predicted[:, level]), 1, atol=0.15)


def gd_run(m, r, sigma, eta, steps, scale=1.0, seeds=2):
    streams = problems.streams(3, seeds)
    truth = problems.truth(m, sigma, streams.truth)
    operator = sensing.operator("population", m, 1, None)
    start = methods.start_factored(m, r, streams.start, scale)
    run = lockstep.Run(methods.gradient_descent(eta), start, sensing.data(operator, truth.A), truth.A)
    trace = lockstep.run(operator, {"gd": run}, steps)["gd"]
    return truth, start, trace.steps, np.sqrt(trace.squared_error)


@pytest.mark.parametrize("m, r, r_A", [(8, 5, 2), (9, 4, 1)])
def test_gd_tail_is_the_measured_one(m, r, r_A):
    _, _, steps, error = gd_run(m, r, problems.spectrum(r_A, min(r_A, 2)), 0.2, 20_000)
    late = steps > 5000
    predicted = theory.gd_tail(steps[late], m, r, r_A, 0.2)
    np.testing.assert_allclose(error[late] / predicted[:, None], 1, atol=0.02)


def test_gd_tail_follows_the_scalar_recursion():
    y, eta, T = 0.7, 0.1, 50_000
    for _ in range(T):
        y -= eta * y**3
    np.testing.assert_allclose(theory.gd_tail(T, 9, 4, 3, eta), y**2, rtol=2e-3)
    assert theory.gd_tail(T, 5, 9, 3, eta) == theory.gd_tail(T, 5, 5, 3, eta)  # no more than m − r_A spare directions


def test_gd_small_start_is_the_measured_run(xp):
    sigma, eta = [1.0, 0.7], 0.2
    truth, start, steps, error = gd_run(8, 5, sigma, eta, 30_000, scale=0.03)
    late = steps >= 1000  # A is found by then
    predicted = theory.gd_small_start(steps[late], xp.asarray(truth.U), xp.asarray(start.Y), eta)
    assert predicted[0].max() > 1.5 * predicted[-1].max()  # from the floor into the tail
    np.testing.assert_allclose(error[late] / predicted, 1, atol=0.15)


@pytest.mark.parametrize("m, r", [(5, 0), (5, 1), (5, 3), (5, 5)])
def test_degrees_of_freedom_is_the_dimension_of_the_tangent_space(m, r):
    rng = np.random.default_rng(4)
    Y, Vs = rng.standard_normal((m, r)), rng.standard_normal((2 * dim_sym(m), m, r))
    tangents = svec(Y @ mT(Vs) + Vs @ Y.T)
    assert theory.degrees_of_freedom(m, r) == np.linalg.matrix_rank(tangents)


def test_noise_floor_counts_the_directions_weight_normalization_fits():
    # Many seeds, run into the flat part that follows the linear phase: the mean squared error within 15%.
    m, r, r_A, n, std, seeds = 6, 3, 1, 300, 1e-3, 60
    streams = problems.streams(5, seeds)
    truth = problems.truth(m, [1.0], streams.truth)
    operator = sensing.operator("triangular", m, n, streams.operator)
    data = sensing.data(operator, truth.A, std, streams.noise)
    start = methods.start_directed(m, r, streams.start)
    run = lockstep.Run(methods.weight_normalization(0.5, 1.5), start, data, truth.A)
    floor = lockstep.run(operator, {"wn": run}, 800, record=[300])["wn"].squared_error[-2:]
    expected = theory.noise_floor(m, r, r_A, n, std)
    np.testing.assert_allclose(floor.mean(axis=1), expected, rtol=0.15)
    np.testing.assert_allclose(theory.noise_floor(m, r, r_A, n, np.array([std, 3 * std])), [expected, 9 * expected])


# --- the reduction to r_A × r_A ------------------------------------------------------------------------------


def test_the_reduction_is_the_full_run():
    m, r, r_A, eta = 20, 7, 3, 1.0
    seeds = problems.streams(0, 3)
    sigma = problems.spectrum(r_A, 8)
    truth = problems.truth(m, sigma, seeds.truth)
    start = methods.start_directed(m, r, seeds.start)  # Θ = 0: the first step leaves X where it is
    run = lockstep.Run(methods.weight_normalization(eta), start, truth.A, truth.A)
    trace = lockstep.run(sensing.Population(m), {"wn": run}, 601, record=np.arange(602))["wn"]
    P = theory.alignment(truth.U, start.X)
    Q = np.eye(r_A) - P
    for t in range(1, 602):
        np.testing.assert_allclose(theory.reduced_error(Q, sigma), trace.squared_error[t], rtol=0, atol=1e-12)
        P, Q = theory.reduced_step(P, Q, sigma, eta)


def test_the_reduction_stays_accurate_far_below_rounding():
    sigma, eta = problems.spectrum(3, 2), 0.7
    P, Q = theory.random_alignment(40, 10, 3, 5, np.random.default_rng(0))
    errors = []
    for _ in range(2000):
        P, Q = theory.reduced_step(P, Q, sigma, eta)
        errors.append(theory.reduced_error(Q, sigma))
    errors = np.array(errors)
    tiny = (errors < 1e-200) & (errors > 1e-280)
    ratios = errors[1:][tiny[:-1]] / errors[:-1][tiny[:-1]]
    assert ratios.size > 100
    np.testing.assert_allclose(ratios, theory.contraction(sigma, eta) ** 2, rtol=1e-6)


def test_random_alignment_has_the_law_of_a_random_start():
    m, r, r_A, draws = 12, 5, 3, 1500
    rngs = [np.random.default_rng([1, k]) for k in range(draws)]
    X = stiefel.random(m, r, rngs)
    direct = X[:, :r_A] @ mT(X[:, :r_A])
    P, Q = theory.random_alignment(m, r, r_A, draws, np.random.default_rng(2))
    np.testing.assert_allclose(P + Q, np.broadcast_to(np.eye(r_A), P.shape), atol=1e-12)
    for statistic in (
        lambda P: P[:, 0, 0],
        lambda P: P[:, 0, 1],
        lambda P: np.linalg.det(P),
        lambda P: np.linalg.eigvalsh(P)[:, 0],
    ):
        assert scipy.stats.ks_2samp(statistic(direct), statistic(P)).pvalue > 1e-3


def test_expected_burn_in_is_the_mean_escape_time_of_the_last_level():
    m, r, r_A, eta = 10**6, 12, 3, 0.1
    sigma = problems.spectrum(r_A, 3, "geometric")
    P, _ = theory.random_alignment(m, r, r_A, 20_000, np.random.default_rng(3))
    times = theory.escape_times(P, sigma, eta)[:, -1]
    assert np.mean(times) == pytest.approx(theory.expected_burn_in(m, r, r_A, sigma[-1], eta), rel=0.03)
    assert theory.expected_burn_in(m, r_A + 1, r_A, 1.0, eta) == np.inf
