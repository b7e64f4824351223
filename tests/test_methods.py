import numpy as np
import pytest
import textbook

from wnlib import lockstep, methods, problems, sensing, stiefel
from wnlib.backend import to_numpy
from wnlib.linalg import mT


def setting(xp, m=6, r=3, r_A=2, n=60, S=3, seed=0, kind="dense"):
    seeds = problems.streams(seed, S)
    truth = problems.truth(m, problems.spectrum(r_A, 2.0), seeds.truth, xp)
    operator = sensing.operator(kind, m, n, seeds.operator, xp)
    return seeds, truth, operator, sensing.data(operator, truth.A)


def test_weight_normalization_is_algorithm_1(xp):
    m, r, S, steps = 6, 3, 3, 40
    seeds, truth, operator, data = setting(xp, m, r, S=S)
    start = methods.start_directed(m, r, seeds.start, xp)
    run = lockstep.Run(methods.weight_normalization(0.4, 1.3), start, data, truth.A)
    end = lockstep.run(operator, {"wn": run}, steps)["wn"].state
    for s in range(S):
        Ms = textbook.matrices(to_numpy(operator.matrix)[s], m)
        y = np.einsum("ijk,jk->i", Ms, to_numpy(truth.A)[s])
        X0, Theta0 = (to_numpy(f)[s] for f in start)
        X, Theta = textbook.weight_normalization(Ms, y, X0, Theta0, 0.4, 1.3, steps)
        np.testing.assert_allclose(to_numpy(end.X)[s], X, atol=1e-10)
        np.testing.assert_allclose(to_numpy(end.Theta)[s], Theta, atol=1e-10)


def test_gradient_descent_is_the_textbooks(xp):
    m, r, S, steps = 6, 3, 3, 40
    seeds, truth, operator, data = setting(xp, m, r, S=S)
    start = methods.start_factored(m, r, seeds.start, 0.5, xp)
    run = lockstep.Run(methods.gradient_descent(0.2), start, data, truth.A)
    end = lockstep.run(operator, {"gd": run}, steps)["gd"].state
    for s in range(S):
        Ms = textbook.matrices(to_numpy(operator.matrix)[s], m)
        y = np.einsum("ijk,jk->i", Ms, to_numpy(truth.A)[s])
        Y = textbook.gradient_descent(Ms, y, to_numpy(start.Y)[s], 0.2, steps)
        np.testing.assert_allclose(to_numpy(end.Y)[s], Y, atol=1e-11)


def first_ask(step, state, operator, data):
    """The state after one step, with every residual gradient answered and listed."""
    going, gradients = step(state), []
    Z = next(going)
    while True:
        gradients.append(operator.normal(Z)[0] - data)
        try:
            Z = going.send(gradients[-1])
        except StopIteration as done:
            return done.value, gradients


def test_the_step_moves_down_the_riemannian_gradient():
    # With a tiny eta, X moves by −ηG: G must be tangent, and the loss must fall by η‖G‖² to first order.
    seeds, _, operator, data = setting(np, S=2)
    X = stiefel.random(6, 3, seeds.start)
    Theta = np.broadcast_to(np.diag([1.0, 0.4, -0.3]), (2, 3, 3))
    state = methods.Directed(X, Theta)

    def loss(X):
        E = operator.normal(X @ Theta @ mT(X))[0] - data
        return 0.25 * np.sum((X @ Theta @ mT(X)) * (E - data), axis=(-2, -1))  # ¼‖M(Z)−y‖² up to a constant

    etas = np.array([1e-3, 1e-4])
    remainders = []
    for eta in etas:
        moved, (E, _) = first_ask(methods.weight_normalization(eta), state, operator, data)
        G = (X - moved.X) / eta
        assert np.max(np.abs(mT(X) @ G + mT(G) @ X)) < 20 * eta  # tangent, up to the retraction's second order
        euclidean = E @ (X @ Theta)
        slope = np.sum(euclidean * stiefel.project(X, euclidean), axis=(-2, -1))
        remainders.append(np.abs(loss(moved.X) - loss(X) + eta * slope))
    order = np.log10(remainders[0] / remainders[1])
    np.testing.assert_allclose(order, 2, atol=0.1)


def test_magnitude_step_uses_the_gradient_at_the_new_direction():
    # In population with μ = 2 one Θ-step lands on X₊ᵀAX₊ whatever Θ was, only if E is taken at X₊.
    seeds, truth, operator, data = setting(np, kind="population")
    X = stiefel.random(6, 3, seeds.start)
    Theta = np.broadcast_to(np.diag([1.0, 0.4, -0.3]), (3, 3, 3))
    state, _ = first_ask(methods.weight_normalization(0.7), methods.Directed(X, Theta), operator, data)
    assert np.max(np.abs(state.X - X)) > 1e-2
    np.testing.assert_allclose(state.Theta, mT(state.X) @ truth.A @ state.X, atol=1e-14)


def test_default_mu_is_the_theorems():
    seeds, _, operator, data = setting(np, kind="population")
    state = methods.start_directed(6, 3, seeds.start)
    default, _ = first_ask(methods.weight_normalization(0.7), state, operator, data)
    explicit, _ = first_ask(methods.weight_normalization(0.7, mu=2.0), state, operator, data)
    np.testing.assert_array_equal(default.Theta, explicit.Theta)


def test_the_manifold_constraint_holds_after_1e5_steps():
    seeds, truth, operator, data = setting(np, m=4, r=3, S=1, n=200)
    run = lockstep.Run(
        methods.weight_normalization(1.0),
        methods.start_directed(4, 3, seeds.start),
        data,
        truth.A,
        {"orthonormality": lambda state, E: stiefel.orthonormality_error(state.X)},
    )
    trace = lockstep.run(operator, {"wn": run}, 100_000)["wn"]
    assert trace.steps[-1] == 100_000
    assert np.max(trace.values["orthonormality"]) <= 1e-12


@pytest.mark.parametrize("name", stiefel.RETRACTIONS)
def test_every_retraction_runs_on_every_backend(xp, name):
    seeds, truth, operator, data = setting(xp)
    step = methods.weight_normalization(0.5, retraction=name)
    run = lockstep.Run(step, methods.start_directed(6, 3, seeds.start, xp), data, truth.A)
    error = lockstep.run(operator, {"wn": run}, 60)["wn"].squared_error
    assert np.all(error[-1] < 0.1 * error[0])
