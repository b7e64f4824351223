import numpy as np
import pytest

from wnlib import lockstep, methods, operators, problems
from wnlib.backend import to_numpy


def setting(xp=np, S=3, kappas=(2.0, 5.0), m=6, r=3, r_A=2, seed=0):
    seeds = problems.streams(seed, S)
    sigma = np.stack([problems.spectrum(r_A, k) for k in kappas])
    truth = problems.truth(m, sigma, seeds.truth, xp)
    operator = operators.operator("triangular", m, 400, seeds.operator, xp)
    data = operators.data(operator, truth.A)
    wn = lockstep.Run(methods.weight_normalization(0.5), methods.start_directed(m, r, seeds.start, xp), data, truth.A)
    gd = lockstep.Run(methods.gradient_descent(0.2), methods.start_factored(m, r, seeds.start, 1.0, xp), data, truth.A)
    return operator, {"wn": wn, "gd": gd}


def test_a_trajectory_is_the_same_alone_and_in_a_crowd(xp):
    operator, runs = setting(xp)
    together = lockstep.run(operator, runs, 50)
    for name, run in runs.items():
        alone = lockstep.run(operator, {name: run}, 50)[name]
        np.testing.assert_allclose(together[name].squared_error, alone.squared_error, rtol=1e-9, atol=1e-14)


def test_a_seeds_trajectory_does_not_depend_on_how_many_seeds_run():
    few, many = (lockstep.run(*setting(S=S), 50)["wn"] for S in (2, 5))
    np.testing.assert_allclose(many.squared_error[:, :2], few.squared_error, rtol=1e-9, atol=1e-14)


def test_what_is_recorded_belongs_to_the_step_it_is_recorded_at():
    operator, runs = setting()
    observe = {"norm": lambda state, E: np.sum(state.estimate**2, axis=(-2, -1)), "E": lambda state, E: E()}
    run = lockstep.Run(runs["wn"].step, runs["wn"].start, runs["wn"].data, runs["wn"].truth, observe)
    long = lockstep.run(operator, {"wn": run}, 20, record=[0, 7, 20])["wn"]
    short = lockstep.run(operator, {"wn": run}, 7)["wn"]
    assert long.steps.tolist() == [0, 7, 20]
    Z = short.state.estimate
    np.testing.assert_allclose(long.values["norm"][1], np.sum(Z**2, axis=(-2, -1)), rtol=1e-12)
    np.testing.assert_allclose(long.squared_error[1], np.sum((Z - run.truth) ** 2, axis=(-2, -1)), rtol=1e-12)
    np.testing.assert_allclose(long.values["E"][1], operator.normal(Z)[0] - run.data, atol=1e-13)


def test_products_are_those_that_the_step_took_alone_or_in_a_crowd():
    operator, runs = setting()
    observe = {"norm": lambda state, E: np.sum(E() ** 2, axis=(-2, -1))}  # its extra product is not the method's
    runs = {
        "wn": lockstep.Run(runs["wn"].step, runs["wn"].start, runs["wn"].data, runs["wn"].truth, observe),
        "gd": runs["gd"],
        "pwn1": lockstep.Run(
            methods.one_product_weight_normalization(),
            methods.start_conjugate(6, 3, problems.streams(0, 3).start),
            runs["wn"].data,
            runs["wn"].truth,
        ),
    }
    together = lockstep.run(operator, runs, 20, record=[0, 7, 20])
    for name, each in (("wn", 2), ("gd", 1), ("pwn1", 1)):
        alone = lockstep.run(operator, {name: runs[name]}, 20, record=[0, 7, 20])[name]
        assert together[name].products.tolist() == alone.products.tolist() == [0, 7 * each, 20 * each]


def test_a_diverging_member_is_named_and_does_not_hold_up_the_rest(xp):
    operator, runs = setting(xp)
    wild = to_numpy(runs["gd"].start.Y).copy()
    wild[1] *= 100
    run = lockstep.Run(runs["gd"].step, methods.Factored(xp.asarray(wild)), runs["gd"].data, runs["gd"].truth)
    trace = lockstep.run(operator, {"gd": run}, 2000, tolerance=1e-3)["gd"]
    calm = lockstep.run(operator, {"gd": runs["gd"]}, 2000, tolerance=1e-3)["gd"]
    assert (trace.status[1] == "diverged").all()
    assert (trace.ended[1] <= 3).all()
    assert np.isnan(trace.squared_error[-1, 1]).all()
    assert np.isfinite(trace.squared_error[0, 1]).all()
    start = np.broadcast_to(wild[1], trace.state.Y.shape[1:])
    np.testing.assert_array_equal(to_numpy(trace.state.Y)[1], start)  # it is set back
    assert (trace.status[[0, 2]] == "converged").all()
    n = min(len(calm.steps), len(trace.steps))
    np.testing.assert_allclose(trace.squared_error[:n, [0, 2]], calm.squared_error[:n, [0, 2]], rtol=1e-9)


def test_status_and_end_step_say_how_each_member_ended():
    operator, runs = setting(kappas=(1.5, 40.0))
    trace = lockstep.run(operator, {"wn": runs["wn"]}, 300, tolerance=1e-10)["wn"]
    assert (trace.status[:, 0] == "converged").all()
    assert (trace.status[:, 1] == "max_steps").all()
    assert (trace.ended[:, 1] == 300).all()
    for s in range(3):
        at = trace.steps == trace.ended[s, 0]
        assert trace.squared_error[at, s, 0] <= 1e-10 < trace.squared_error[np.flatnonzero(at)[0] - 1, s, 0]


def test_a_run_leaves_early_only_when_all_its_members_are_done():
    operator, runs = setting(kappas=(1.5, 3.0))
    trace = lockstep.run(operator, {"wn": runs["wn"]}, 10**5, tolerance=1e-10)["wn"]
    assert trace.steps[-1] < 10**4
    assert (trace.squared_error[-1] <= 1e-10).all()


def test_schedule_holds_both_ends_and_grows_geometrically():
    steps = lockstep.schedule(10**5, per_decade=20)
    assert steps[0] == 0 and steps[-1] == 10**5
    assert np.all(np.diff(steps) > 0)
    assert 15 <= np.count_nonzero((steps > 1000) & (steps <= 10**4)) <= 25
    assert lockstep.schedule(1).tolist() == [0, 1]


def test_the_progress_bar_stays_silent_without_a_terminal(capsys):
    lockstep.run(*setting(), 5)
    out, err = capsys.readouterr()
    assert out == err == ""


def test_without_a_truth_the_residual_stands_where_the_error_would_and_stops_the_run():
    rng = np.random.default_rng(3)
    truth, M = problems.truth(8, [1.0, 0.5], rng), operators.gaussian(8, 300, rng)
    data = operators.data(M, truth.A)
    start = methods.start_conjugate(8, 4, rng)
    step = methods.one_product_weight_normalization()
    trace = lockstep.run(M, {"it": lockstep.Run(step, start, data)}, 80, tolerance=1e-20)["it"]
    assert "squared_error" not in trace.values
    assert trace.status.item() == lockstep.Status.CONVERGED and trace.values["squared_residual"][-1] <= 1e-20
    np.testing.assert_allclose(trace.state.estimate, truth.A, atol=1e-8)
    with pytest.raises(ValueError, match="run 'it' has neither data nor truth"):
        lockstep.run(M, {"it": lockstep.Run(step, start)}, 5)
