"""The laws against measured runs, and the exact identities they rest on."""

import numpy as np
import pytest
import scipy.linalg
import scipy.stats

from wnlib import laws, lockstep, methods, operators, problems, stiefel
from wnlib.backend import to_numpy
from wnlib.linalg import dim_sym, eye_like, mT, svec, sym, trace


def population_run(m, r, sigma, seeds, eta, steps, record, with_alignment=False):
    """Weight normalization from random starts, infinitely many samples: (truth, start, trace)."""
    streams = problems.streams(1, seeds)
    truth = problems.truth(m, sigma, streams.truth)
    operator = operators.operator("population", m, 1, None)
    start = methods.start_directed(m, r, streams.start)
    data = operators.data(operator, truth.A)
    observe = {"P": lambda state, E: laws.alignment(truth.U, state.X)} if with_alignment else {}
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
        np.testing.assert_allclose(rate, -np.log(laws.contraction(sigma, eta)), rtol=0.02)


def test_contraction_takes_stacks_of_spectra(xp):
    sigma = xp.asarray([[1.0, 0.5], [1.0, 0.1]])
    np.testing.assert_allclose(laws.contraction(sigma, 0.5), [1 - 0.5 * 0.25, 1 - 0.5 * 0.01])
    np.testing.assert_allclose(laws.contraction(sigma, 1.9), [0.9, 1 - 1.9 * 0.01])


def test_alignment_is_the_squared_cosines_of_the_principal_angles(xp):
    truth, X = random_point(7, 4, 2, xp)
    P = to_numpy(laws.alignment(truth.U, X))
    for U, x, p in zip(to_numpy(truth.U), to_numpy(X), P, strict=True):
        np.testing.assert_allclose(p, U.T @ x @ x.T @ U, atol=1e-15)
        cosines = np.cos(scipy.linalg.subspace_angles(U, x))
        np.testing.assert_allclose(np.linalg.eigvalsh(p)[::-1], np.sort(cosines**2)[::-1], atol=1e-14)
    np.testing.assert_allclose(
        to_numpy(laws.alignment(truth.U, truth.U)), np.broadcast_to(np.eye(2), (3, 2, 2)), atol=1e-14
    )


def test_error_and_gradient_are_those_of_the_reduced_dynamics(xp):
    truth, X = random_point(7, 4, 3, xp)
    A, U, Sigma = truth.A, truth.U, xp.asarray(np.diag(to_numpy(truth.sigma)))
    Theta = mT(X) @ A @ X
    E = X @ Theta @ mT(X) - A
    Q = xp.eye(3) - laws.alignment(U, X)
    SQS = Sigma @ Q @ Sigma
    squared = to_numpy(xp.sum(E * E, axis=(-2, -1)))
    np.testing.assert_allclose(squared, to_numpy(2 * trace(SQS) - trace(SQS @ Q)), rtol=1e-12)
    G = stiefel.project(X, E @ (X @ Theta))
    C = Sigma @ laws.alignment(U, X) @ Sigma
    moved = (xp.eye(7) - X @ mT(X)) @ U @ C @ mT(U) @ X
    np.testing.assert_allclose(to_numpy(-G), to_numpy(moved), atol=1e-14)


def test_escape_times_are_those_of_the_singular_values_of_AX(xp):
    truth, X = random_point(9, 5, 3, xp)
    times = laws.escape_times(laws.alignment(truth.U, X), truth.sigma, 0.3)
    for s in range(3):
        singular = np.linalg.svd(to_numpy(truth.A)[s] @ to_numpy(X)[s], compute_uv=False)[:3]
        np.testing.assert_allclose(times[s], 1 / (0.6 * singular**2), rtol=1e-10)


def crossings(P, Q, sigma, eta, steps):
    """The step (interpolated) at which each level of each draw passes one half in the reduction; NaN if never."""
    found, before = np.full((len(P), len(sigma)), np.nan), laws.levels(P, sigma)
    for t in range(steps):
        P, Q = laws.reduced_step(P, Q, sigma, eta)
        after = laws.levels(P, sigma)
        new = (after >= 0.5) & np.isnan(found)
        found[new] = (t + (0.5 - before) / np.where(new, after - before, 1))[new]
        before = after
    return found


@pytest.mark.parametrize("sigma", [[1.0, 0.5, 0.25], [1.0, 0.8, 0.7], [1.0, 0.5, 0.5], [1.0, 1.0, 1.0]])
def test_escape_and_crossing_times_hold_for_levels_far_close_and_equal(sigma):
    sigma, eta = np.array(sigma), 0.1
    P, Q = laws.random_alignment(1000, 50, 3, 100, np.random.default_rng(6))
    measured = crossings(P, Q, sigma, eta, int(1.5 * laws.escape_times(P, sigma, eta).max()))
    leading = measured / laws.escape_times(P, sigma, eta)
    refined = measured / laws.crossing_time(laws.levels(P, sigma), 0.5, sigma, eta)
    np.testing.assert_allclose(np.median(leading, axis=0), 1, atol=0.09)
    np.testing.assert_allclose(np.median(refined, axis=0), 1, atol=0.015)


def test_escape_times_are_sharp_for_small_starts():
    # p_0 = 1/400: the next orders are 1% each, and a constant off by a tenth would show.
    sigma, eta = np.array([1.0, 0.5]), 0.5
    P, Q = laws.random_alignment(10**6, 2500, 2, 40, np.random.default_rng(8))
    measured = crossings(P, Q, sigma, eta, 2500)
    np.testing.assert_allclose(np.median(measured / laws.escape_times(P, sigma, eta), axis=0), 1.02, atol=0.03)


@pytest.mark.parametrize("eta", [0.02, 0.2, 0.8])
def test_crossing_time_is_the_scalar_recursion_s(eta):
    p, q, sigma = np.array([[0.01]]), np.array([[0.99]]), np.array([0.7])
    x, path = eta * sigma[0] ** 2, [0.01]
    while path[-1] < 0.95:
        p, q = laws.reduced_step(p, q, sigma, eta)
        path.append(p[0, 0])
    steps = np.arange(1, len(path))
    predicted = laws.crossing_time(0.01, np.array(path[1:]), sigma[0], eta)
    assert np.max(np.abs(predicted - steps)) < 0.6 * x  # the error is O(x) of a step, over the whole rise
    without = predicted - 0.75 * np.log(np.array(path[1:]) / 0.01)
    assert np.max(np.abs(without - steps)) > 2  # and the finite step's correction is needed


def test_escape_law_is_the_law_of_escape_times_far_apart():
    m, r, eta, sigma = 10**5, 9, 0.1, np.array([1.0, 0.05, 0.002])
    P, _ = laws.random_alignment(m, r, 3, 8000, np.random.default_rng(7))
    times = laws.escape_times(P, sigma, eta)
    for level in (1, 2, 3):
        law = laws.escape_law(m, r, level, sigma[level - 1], eta)
        assert scipy.stats.kstest(times[:, level - 1], law.cdf).pvalue > 1e-3
        assert scipy.stats.kstest(1.1 * times[:, level - 1], law.cdf).pvalue < 1e-6
        mean = (m - level - 1) / (2 * eta * sigma[level - 1] ** 2 * (r - level - 1))
        assert law.mean() == pytest.approx(mean)


@pytest.mark.parametrize("spare", [0, 1, 2])
def test_the_tail_of_the_escape_law_is_a_power(spare):
    law = laws.escape_law(200, 3 + spare, 3, 0.5, 0.1)
    x = np.array([1e12, 1e14])
    index = -np.diff(np.log(law.sf(x))) / np.log(100)
    np.testing.assert_allclose(index, (spare + 1) / 2, rtol=1e-3)
    assert np.isinf(law.mean()) == (spare < 2)


@pytest.mark.parametrize("mu", [1.0, 2.0, 3.0])
def test_magnitude_threshold_is_where_the_step_of_theta_loses_stability(mu):
    r = 30
    rng, dim = np.random.default_rng(8), dim_sym(r)

    def growth(n):
        J = rng.standard_normal((int(n), dim)) / np.sqrt(int(n))
        return np.max(np.abs(np.linalg.eigvalsh(np.eye(dim) - mu / 2 * J.T @ J)))

    threshold = laws.magnitude_threshold(r, mu)
    assert growth(1.1 * threshold) < 1 < growth(0.9 * threshold)


def test_theorem_against_the_laws():
    m, r, r_A, kappa = 10**6, 10**4, 5, 7.0
    promised = laws.theorem(m, r, r_A, kappa)
    assert promised.rate == pytest.approx(1 - laws.contraction([1, 1 / kappa], promised.eta), rel=1e-6)
    sharp = laws.escape_law(m, r, r_A, 1 / kappa, promised.eta).mean()
    assert promised.burn_in / sharp == pytest.approx(2 * m * r**2 * r_A / (r - r_A) ** 3, rel=1e-2)
    doubled = laws.theorem(m, r, r_A, 2 * kappa)
    powers = {"rip": -2, "eta": -2, "burn_in": 4, "rate": -4, "samples": 4}
    assert {k: np.log2(x / vars(promised)[k]) for k, x in vars(doubled).items()} == pytest.approx(powers)


@pytest.mark.parametrize("ratio", [1.5, 4.0])
def test_sampled_decay_is_the_measured_linear_phase(ratio):
    m, r, r_A, kappa, eta, steps = 40, 8, 2, 5, 0.8, 300
    n = int(ratio * dim_sym(m))
    seeds = problems.streams(9, 4)
    truth = problems.truth(m, problems.spectrum(r_A, kappa), seeds.truth)
    near = np.concatenate([truth.U, stiefel.random(m, r - r_A, seeds.start)], axis=-1)
    X = np.linalg.qr(near + 1e-3 * np.stack([g.standard_normal((m, r)) for g in seeds.start]))[0]
    operator = operators.operator("triangular", m, n, seeds.operator)
    run = lockstep.Run(methods.weight_normalization(eta), methods.Directed(X, mT(X) @ truth.A @ X), None, truth.A)
    trace = lockstep.run(operator, {"wn": run}, steps, record=[50, 150])["wn"]
    error, t = np.sqrt(np.median(trace.squared_error, axis=1))[1:], trace.steps[1:]
    rates = np.diff(np.log(error)) / np.diff(t)
    law = np.diff(np.log(laws.sampled_decay(t, m, r, r_A, n, 1 / kappa, eta))) / np.diff(t)
    np.testing.assert_allclose(rates, law, rtol=0.04)
    assert laws.sampled_decay(10, m, r, r_A, 10**12, 0.2, eta) == pytest.approx((1 - eta / 25) ** 10, rel=1e-5)


@pytest.mark.parametrize("level, eta, steps", [(0, 0.1, 1000), (1, 1.0, 2000)])
def test_escape_times_are_the_measured_ones(level, eta, steps):
    # Well separated levels, m/r = 20, ησ² small: P_ℓℓ passes one half. The slowest seeds, not half, need not arrive.
    m, r, sigma = 60, 3, np.array([1.0, 0.2])
    truth, start, run = population_run(m, r, sigma, 11, eta, steps, range(0, steps + 1, 2), with_alignment=True)
    predicted = laws.escape_times(laws.alignment(truth.U, start.X), sigma, eta)
    learned = run.values["P"][..., level, level] > 0.5
    measured = np.where(learned.any(axis=0), run.steps[np.argmax(learned, axis=0)], np.inf)
    np.testing.assert_allclose(np.median(measured / predicted[:, level]), 1, atol=0.15)


def gd_run(m, r, sigma, eta, steps, scale=1.0, seeds=2):
    streams = problems.streams(3, seeds)
    truth = problems.truth(m, sigma, streams.truth)
    operator = operators.operator("population", m, 1, None)
    start = methods.start_factored(m, r, streams.start, scale)
    run = lockstep.Run(methods.gradient_descent(eta), start, operators.data(operator, truth.A), truth.A)
    trace = lockstep.run(operator, {"gd": run}, steps)["gd"]
    return truth, start, trace.steps, np.sqrt(trace.squared_error)


@pytest.mark.parametrize("m, r, r_A", [(8, 5, 2), (9, 4, 1)])
def test_gd_tail_is_the_measured_one(m, r, r_A):
    _, _, steps, error = gd_run(m, r, problems.spectrum(r_A, min(r_A, 2)), 0.2, 20_000)
    late = steps > 5000
    predicted = laws.gd_tail(steps[late], m, r, r_A, 0.2)
    np.testing.assert_allclose(error[late] / predicted[:, None], 1, atol=0.02)


def test_gd_tail_follows_the_scalar_recursion():
    y, eta, T = 0.7, 0.1, 50_000
    for _ in range(T):
        y -= eta * y**3
    np.testing.assert_allclose(laws.gd_tail(T, 9, 4, 3, eta), y**2, rtol=2e-3)
    assert laws.gd_tail(T, 5, 9, 3, eta) == laws.gd_tail(T, 5, 5, 3, eta)  # no more than m − r_A spare directions


def test_gd_small_start_is_the_measured_run(xp):
    sigma, eta = [1.0, 0.7], 0.2
    truth, start, steps, error = gd_run(8, 5, sigma, eta, 30_000, scale=0.03)
    late = steps >= 1000  # A is found by then
    predicted = laws.gd_small_start(steps[late], xp.asarray(truth.U), xp.asarray(start.Y), eta)
    assert predicted[0].max() > 1.5 * predicted[-1].max()  # from the floor into the tail
    np.testing.assert_allclose(error[late] / predicted, 1, atol=0.15)


@pytest.mark.parametrize("m, r", [(5, 0), (5, 1), (5, 3), (5, 5)])
def test_degrees_of_freedom_is_the_dimension_of_the_tangent_space(m, r):
    rng = np.random.default_rng(4)
    Y, Vs = rng.standard_normal((m, r)), rng.standard_normal((2 * dim_sym(m), m, r))
    tangents = svec(Y @ mT(Vs) + Vs @ Y.T)
    assert laws.degrees_of_freedom(m, r) == np.linalg.matrix_rank(tangents)


def test_noise_floor_counts_the_directions_weight_normalization_fits():
    # Many seeds, run into the flat part that follows the linear phase: the mean squared error within 15%.
    m, r, r_A, n, std, seeds = 6, 3, 1, 300, 1e-3, 60
    streams = problems.streams(5, seeds)
    truth = problems.truth(m, [1.0], streams.truth)
    operator = operators.operator("triangular", m, n, streams.operator)
    data = operators.data(operator, truth.A, std, streams.noise)
    start = methods.start_directed(m, r, streams.start)
    run = lockstep.Run(methods.weight_normalization(0.5, 1.5), start, data, truth.A)
    floor = lockstep.run(operator, {"wn": run}, 800, record=[300])["wn"].squared_error[-2:]
    expected = laws.noise_floor(m, r, r_A, n, std)
    np.testing.assert_allclose(floor.mean(axis=1), expected, rtol=0.15)
    np.testing.assert_allclose(laws.noise_floor(m, r, r_A, n, np.array([std, 3 * std])), [expected, 9 * expected])


# --- the reduction to r_A × r_A ------------------------------------------------------------------------------


def test_the_reduction_is_the_full_run():
    m, r, r_A, eta = 20, 7, 3, 1.0
    seeds = problems.streams(0, 3)
    sigma = problems.spectrum(r_A, 8)
    truth = problems.truth(m, sigma, seeds.truth)
    start = methods.start_directed(m, r, seeds.start)  # Θ = 0: the first step leaves X where it is
    run = lockstep.Run(methods.weight_normalization(eta), start, truth.A, truth.A)
    trace = lockstep.run(operators.Population(m), {"wn": run}, 601, record=np.arange(602))["wn"]
    P = laws.alignment(truth.U, start.X)
    Q = np.eye(r_A) - P
    for t in range(1, 602):
        np.testing.assert_allclose(laws.reduced_error(Q, sigma), trace.squared_error[t], rtol=0, atol=1e-12)
        P, Q = laws.reduced_step(P, Q, sigma, eta)


@pytest.mark.parametrize("mu", [0.5, 2.0, 3.0])
def test_the_reduction_with_any_magnitude_is_the_full_run(mu, xp):
    m, r, eta, steps = 9, 5, 0.5, 60
    seeds = problems.streams(4, 2)
    truth = problems.truth(m, [1.0, 0.4], seeds.truth, xp)
    X = stiefel.random(m, r, seeds.start, xp)
    Theta = xp.asarray(np.stack([sym(g.standard_normal((r, r))) for g in seeds.noise]))
    run = lockstep.Run(methods.weight_normalization(eta, mu), methods.Directed(X, Theta), truth.A, truth.A)
    trace = lockstep.run(operators.Population(m), {"wn": run}, steps, record=range(steps + 1))["wn"]
    Phi = mT(truth.U) @ X
    state = laws.Reduced(Phi, Theta, eye_like(Phi @ mT(Phi)) - Phi @ mT(Phi))
    for t in range(steps + 1):
        error = to_numpy(laws.reduced_any_error(state, truth.sigma))
        np.testing.assert_allclose(error, trace.squared_error[t], rtol=0, atol=1e-12)
        state = laws.reduced_any_step(state, truth.sigma, eta, mu)
    np.testing.assert_allclose(
        to_numpy(state.Phi @ mT(state.Phi) + state.Q), np.broadcast_to(np.eye(2), (2, 2, 2)), atol=1e-13
    )


def test_the_reduction_with_the_magnitude_at_rest_is_the_small_one():
    rng = np.random.default_rng(5)
    P, Q = laws.random_alignment(12, 6, 3, 4, rng)
    sigma = np.array([1.0, 0.6, 0.6])
    Phi = np.linalg.cholesky(P)  # one of the Φ with this P, r = r_A
    state = laws.reduced_any_step(laws.Reduced(Phi, mT(Phi) @ (sigma[:, None] * Phi), Q), sigma, 0.7)
    P_next, Q_next = laws.reduced_step(P, Q, sigma, 0.7)
    np.testing.assert_allclose(state.Phi @ mT(state.Phi), P_next, atol=1e-14)
    np.testing.assert_allclose(state.Q, Q_next, atol=1e-14)


def test_the_reduction_of_preconditioned_weight_normalization(xp):
    m, r, eta, steps = 9, 5, 0.5, 40
    seeds = problems.streams(4, 2)
    truth = problems.truth(m, [1.0, 0.1], seeds.truth, xp)
    X = stiefel.random(m, r, seeds.start, xp)
    start = methods.Directed(X, mT(X) @ truth.A @ X)
    step = methods.preconditioned_weight_normalization(eta, damping=0.1)
    trace = lockstep.run(
        operators.Population(m), {"pwn": lockstep.Run(step, start, truth.A, truth.A)}, steps, record=range(steps + 1)
    )["pwn"]
    P = laws.alignment(truth.U, X)
    Q = eye_like(P) - P
    for t in range(steps + 1):
        error = to_numpy(laws.reduced_error(Q, truth.sigma))
        np.testing.assert_allclose(error, trace.squared_error[t], rtol=0, atol=1e-12)
        P, Q = laws.reduced_step(P, Q, truth.sigma, eta, damping=0.1)


def test_without_damping_one_preconditioned_step_recovers_the_truth():
    sigma = problems.spectrum(4, 1000.0)
    P, Q = laws.random_alignment(50, 6, 4, 20, np.random.default_rng(6))
    assert np.max(laws.reduced_error(laws.reduced_step(P, Q, sigma, 1.0, damping=0.0)[1], sigma)) < 1e-20


def test_the_reduction_stays_accurate_far_below_rounding():
    sigma, eta = problems.spectrum(3, 2), 0.7
    P, Q = laws.random_alignment(40, 10, 3, 5, np.random.default_rng(0))
    errors = []
    for _ in range(2000):
        P, Q = laws.reduced_step(P, Q, sigma, eta)
        errors.append(laws.reduced_error(Q, sigma))
    errors = np.array(errors)
    tiny = (errors < 1e-200) & (errors > 1e-280)
    ratios = errors[1:][tiny[:-1]] / errors[:-1][tiny[:-1]]
    assert ratios.size > 100
    np.testing.assert_allclose(ratios, laws.contraction(sigma, eta) ** 2, rtol=1e-6)


def test_burn_in_is_the_first_step_within_the_cut():
    sigma, eta, cuts = np.array([1.0, 0.4]), 0.6, np.array([[0.9], [0.5]])
    P, Q = laws.random_alignment(30, 5, 2, 40, np.random.default_rng(9))
    P[0], Q[0] = np.eye(2), 0 * np.eye(2)  # through from the start
    limit = int(np.median(laws.burn_in(P, Q, sigma, eta, 10_000)))
    found, finite = np.full((2, 1, 40), np.nan), laws.burn_in(P, Q, sigma, eta, limit)
    traces, p, q = [], P, Q
    for _ in range(limit + 1):
        traces.append(trace(q))
        p, q = laws.reduced_step(p, q, sigma, eta)
    for index in np.ndindex(found.shape):
        within = np.flatnonzero(np.array(traces)[:, index[-1]] <= cuts[index[0]])
        found[index] = within[0] if within.size else np.nan
    np.testing.assert_array_equal(laws.burn_in(P, Q, sigma, eta, limit, cuts), found)
    np.testing.assert_array_equal(finite, found[1, 0])
    assert finite[0] == 0 and limit in finite and 10 < np.sum(np.isnan(finite)) < 30


def test_burn_in_refuses_a_negative_limit():
    P, Q = laws.random_alignment(30, 5, 2, 4, np.random.default_rng(9))
    with pytest.raises(ValueError, match="limit"):
        laws.burn_in(P, Q, np.ones(2), 0.5, -1)


def test_random_alignment_has_the_law_of_a_random_start():
    m, r, r_A, draws = 12, 5, 3, 1500
    rngs = [np.random.default_rng([1, k]) for k in range(draws)]
    X = stiefel.random(m, r, rngs)
    direct = X[:, :r_A] @ mT(X[:, :r_A])
    P, Q = laws.random_alignment(m, r, r_A, draws, np.random.default_rng(2))
    np.testing.assert_allclose(P + Q, np.broadcast_to(np.eye(r_A), P.shape), atol=1e-12)
    for statistic in (
        lambda P: P[:, 0, 0],
        lambda P: P[:, 0, 1],
        lambda P: np.linalg.det(P),
        lambda P: np.linalg.eigvalsh(P)[:, 0],
    ):
        assert scipy.stats.ks_2samp(statistic(direct), statistic(P)).pvalue > 1e-3


def test_random_alignment_with_fewer_directions_outside_than_levels():
    m, r, r_A, draws = 8, 7, 3, 1500
    P, Q = laws.random_alignment(m, r, r_A, draws, np.random.default_rng(2))
    eigenvalues = np.linalg.eigvalsh(P)
    np.testing.assert_allclose(eigenvalues[:, 1:], 1, atol=1e-12)  # range(X) meets range(U) in r + r_A − m dimensions
    X = stiefel.random(m, r, [np.random.default_rng([1, k]) for k in range(draws)])
    direct = np.linalg.eigvalsh(X[:, :r_A] @ mT(X[:, :r_A]))[:, 0]
    assert scipy.stats.ks_2samp(direct, eigenvalues[:, 0]).pvalue > 1e-3
    P, Q = laws.random_alignment(m, m, r_A, 2, np.random.default_rng(2))
    np.testing.assert_allclose(Q, 0)


def test_random_alignment_keeps_its_digits_at_any_size():
    P, _ = laws.random_alignment(10**12, 10, 2, 4000, np.random.default_rng(3))
    law = scipy.stats.beta(5, (10**12 - 10) / 2)
    assert scipy.stats.kstest(P[:, 0, 0], law.cdf).pvalue > 1e-3


def test_the_mean_of_the_escape_law_is_the_mean_escape_time_of_the_last_level():
    m, r, r_A, eta, sigma = 10**6, 12, 3, 0.1, np.array([1.0, 0.1, 0.01])
    P, _ = laws.random_alignment(m, r, r_A, 20_000, np.random.default_rng(3))
    times = laws.escape_times(P, sigma, eta)[:, -1]
    assert np.mean(times) == pytest.approx(laws.escape_law(m, r, r_A, sigma[-1], eta).mean(), rel=0.03)
    assert laws.escape_law(m, r_A + 1, r_A, 1.0, eta).mean() == np.inf
