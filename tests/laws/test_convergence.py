"""The proved laws against full runs: R₊ = HRH, the bound for both phases, the error's fall, the local rate."""

import numpy as np
import pytest

from wnlib import laws, lockstep, methods, operators, problems, stiefel
from wnlib.linalg import sym


def squared_tangents(U, X):
    """R = P⁻¹ − I for P = UᵀXXᵀU."""
    return sym(np.linalg.inv(laws.alignment(U, X))) - np.eye(U.shape[-1])


@pytest.mark.parametrize("damping", [None, 0.3])
@pytest.mark.parametrize("seed", range(8))
def test_the_tangents_recursion_is_the_methods_step(seed, damping):
    rng = np.random.default_rng(seed)
    sigma = np.sort(rng.uniform(0.1, 1, 3))[::-1] * (1 if damping else rng.choice([-1, 1], 3))
    U, X = stiefel.random(12, 3, rng), stiefel.random(12, int(rng.integers(3, 10)), rng)
    A = sym((U * sigma) @ U.T)
    E = np.linalg.norm(X @ (X.T @ A @ X) @ X.T - A)
    step = (
        methods.weight_normalization(0.7)
        if damping is None
        else methods.preconditioned_weight_normalization(damping=damping / E)
    )
    run = lockstep.Run(step, methods.Directed(X, X.T @ A @ X), None, A)
    after = lockstep.run(operators.Population(12), {"": run}, 1)[""].state
    R = squared_tangents(U, X)
    mine = laws.tangents_step(R, sigma, 0.7, damping)
    np.testing.assert_allclose(mine, squared_tangents(U, after.X), atol=1e-9 * np.linalg.norm(R))


def test_the_bound_holds_to_both_ends_and_is_tight_for_equal_levels():
    rng = np.random.default_rng(0)
    for sigma in (np.ones(2), np.array([1.0, 0.3]), np.array([1.0, -0.5])):
        P, _ = laws.random_alignment(200, 6, 2, 50, rng)
        R = np.linalg.inv(P) - np.eye(2)
        rho_0 = np.linalg.eigvalsh(R)[:, -1]
        for t in range(1, 400):
            R = laws.tangents_step(R, sigma, 0.2)
            rho = np.linalg.eigvalsh(R)[:, -1]
            assert np.all(rho <= laws.tangent_bound(t, rho_0, sigma, 0.2) * (1 + 1e-9) + 1e-12)
        assert np.all(laws.burn_in_bound(rho_0, sigma, 0.2) >= 0)
    one = np.array([[[40.0]]])
    steps = 0
    while one[0, 0, 0] > 1:
        one, steps = laws.tangents_step(one, np.ones(1), 0.2), steps + 1
    assert steps <= np.ceil(laws.burn_in_bound(40.0, np.ones(1), 0.2)) <= 1.3 * steps


def test_the_theorem_s_burn_in_ends_within_its_bound_and_after_that_of_the_angles():
    sigma, eta = np.array([1.0, 0.9, 0.6, 0.5]), 0.8
    P, Q = laws.random_alignment(80, 8, 4, 200, np.random.default_rng(4))
    rho_0 = 1 / np.linalg.eigvalsh(P)[:, 0] - 1
    found = laws.burn_in(P, Q, sigma, eta, 10**5)
    assert np.all(found <= np.ceil(laws.burn_in_bound(rho_0, sigma, eta, 1 / 7)))
    assert np.any(found > np.ceil(0.5 * laws.burn_in_bound(rho_0, sigma, eta, 1 / 7)))
    half_way = np.full(200, np.nan)
    for t in range(int(found.max()) + 1):
        half_way = np.where(np.isnan(half_way) & (np.linalg.eigvalsh(P)[:, 0] >= 0.5), t, half_way)
        P, Q = laws.reduced_step(P, Q, sigma, eta)
    assert np.all(half_way <= found) and np.any(half_way < found)


@pytest.mark.parametrize("signs", ["positive", "any", "pairs"])
def test_the_error_never_rises_up_to_a_sharp_step(signs):
    rng = np.random.default_rng(6)
    sigma = rng.choice([0.1, 0.5, 1.0], (60, 4)) ** rng.choice([0, 1], (60, 1))
    if signs == "any":
        sigma *= rng.choice([-1, 1], sigma.shape)
    if signs == "pairs":  # a rectangle's lift
        sigma[:, 2:] = -sigma[:, :2]
    ends = np.maximum(sigma.max(axis=-1), 0) - np.minimum(sigma.min(axis=-1), 0)
    sigma *= np.sqrt(2 / (ends * np.abs(sigma).max(axis=-1)))[:, None]  # η = 1 is at the limit

    def largest_rise(sigma, r):
        U, X = (stiefel.random(7, k, rng.spawn(60)) for k in (4, r))
        A = sym((U * sigma[:, None, :]) @ np.swapaxes(U, 1, 2))
        start = methods.Directed(X, sym(np.swapaxes(X, 1, 2) @ A @ X))
        run = lockstep.Run(methods.weight_normalization(1.0), start, A, A)
        error = lockstep.run(operators.Population(7), {"": run}, 60, record=range(61))[""].squared_error
        return np.max(np.diff(error, axis=0))

    assert max(largest_rise(sigma, r) for r in (2, 4, 6)) < 1e-12  # r < r_A too
    assert largest_rise(np.sqrt(1.05) * sigma, 4) > 1e-4


def test_the_bound_refuses_a_step_beyond_its_domain():
    with pytest.raises(ValueError, match=r"eta = 1\.5: must be > 0 and at most"):
        laws.tangent_bound(3, 2.0, np.array([1.0, 0.5]), 1.5)


def test_the_escape_law_refuses_a_range_that_holds_everything():
    with pytest.raises(ValueError, match="r = 10"):
        laws.escape_law(10, 10, 3, 0.5, 0.5)


def test_the_local_rate_in_population_and_past_the_limit_of_the_magnitudes_step():
    rng, sigma = np.random.default_rng(1), np.array([1.0, 0.5])
    truth = problems.truth(8, sigma, rng)
    rest = np.linalg.svd(truth.U)[0][:, 2:5]
    X = np.concatenate([truth.U, rest], axis=1)
    assert laws.local_rate(operators.Population(8), truth.U, sigma, X, 0.8) == pytest.approx(1 - 0.8 * 0.25, abs=1e-12)
    # n below 5.83 r(r+1)/2: Θ's step alone diverges, with X turning in its range the whole converges.
    sigma, streams = problems.spectrum(3, 3.0), problems.streams(1, 6)
    truth = problems.truth(14, sigma, streams.truth)
    M = operators.gaussian(14, 94, streams.operator)
    run = lockstep.Run(methods.weight_normalization(1.0), methods.start_directed(14, 8, streams.start), None, truth.A)
    trace = lockstep.run(M, {"": run}, 3000, record=range(0, 3001, 20), tolerance=1e-22)[""]
    done = trace.status == lockstep.Status.CONVERGED
    rate = laws.local_rate(M, truth.U, sigma, trace.state.X, 1.0)
    alone = laws.local_rate(M, truth.U, 0 * sigma, trace.state.X, 1.0)
    assert done.sum() >= 4 and np.all(rate[done] < 1) and np.all(alone > 1.1)
    late = np.sqrt(trace.squared_error)
    for s in np.flatnonzero(done):
        (rows,) = np.nonzero((late[:, s] < 1e-7) & (late[:, s] > 1e-10))
        fitted = np.polyfit(trace.steps[rows], np.log(late[rows, s]), 1)[0]
        assert fitted == pytest.approx(np.log(rate[s]), rel=0.06)
