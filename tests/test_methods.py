import numpy as np
import pytest
import textbook

from wnlib import fits, lockstep, methods, operators, problems, stiefel
from wnlib.backend import to_numpy
from wnlib.linalg import mT


def setting(xp, m=6, r=3, r_A=2, n=60, S=3, seed=0, kind="dense"):
    seeds = problems.streams(seed, S)
    truth = problems.truth(m, problems.spectrum(r_A, 2.0), seeds.truth, xp)
    operator = operators.operator(kind, m, n, seeds.operator, xp)
    return seeds, truth, operator, operators.data(operator, truth.A)


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


def test_the_manifold_constraint_does_not_drift():
    """To 1e-17 a step: rounding alone, never mended, would gain some 1e-16 each."""
    seeds, truth, operator, data = setting(np, m=4, r=3, S=1, n=200)
    run = lockstep.Run(
        methods.weight_normalization(1.0),
        methods.start_directed(4, 3, seeds.start),
        data,
        truth.A,
        {"orthonormality": lambda state, E: textbook.orthonormality_error(state.X)},
    )
    trace = lockstep.run(operator, {"wn": run}, 10_000)["wn"]
    assert trace.steps[-1] == 10_000
    assert np.max(trace.values["orthonormality"]) <= 1e-13


@pytest.mark.parametrize("name", stiefel.RETRACTIONS)
def test_every_retraction_runs_on_every_backend(xp, name):
    seeds, truth, operator, data = setting(xp)
    step = methods.weight_normalization(0.5, retraction=name)
    run = lockstep.Run(step, methods.start_directed(6, 3, seeds.start, xp), data, truth.A)
    error = lockstep.run(operator, {"wn": run}, 60)["wn"].squared_error
    assert np.all(error[-1] < 0.1 * error[0])


PRECONDITIONED = {
    "PWN": (
        methods.preconditioned_weight_normalization(0.7, 1.3, 0.4),
        methods.start_directed,
        lambda *start: textbook.preconditioned_weight_normalization(*start, 0.7, 1.3, 0.4, 12),
    ),
    "PWN, exact magnitude": (
        methods.preconditioned_weight_normalization(0.7, "exact", 0.4),
        methods.start_directed,
        lambda *start: textbook.preconditioned_weight_normalization(*start, 0.7, None, 0.4, 12),
    ),
    "PWN1": (
        methods.one_product_weight_normalization(0.4),
        methods.start_conjugate,
        lambda *start: textbook.one_product_weight_normalization(*start, 0.4, 12),
    ),
}


@pytest.mark.parametrize("name", PRECONDITIONED)
def test_preconditioned_steps_are_the_textbooks(xp, name):
    step, starts, textbooks = PRECONDITIONED[name]
    seeds, truth, operator, data = setting(xp)
    start = starts(6, 3, seeds.start, xp)
    Theta = xp.asarray(np.broadcast_to(np.diag([0.9, 0.4, -0.3]), (3, 3, 3)).copy())
    start = start._replace(Theta=Theta)
    if name == "PWN1":
        start = start._replace(W=start.estimate)
    end = lockstep.run(operator, {"run": lockstep.Run(step, start, data, truth.A)}, 12)["run"].state
    for s in range(3):
        Ms = textbook.matrices(to_numpy(operator.matrix)[s], 6)
        y = np.einsum("ijk,jk->i", Ms, to_numpy(truth.A)[s])
        X, Theta = textbooks(Ms, y, to_numpy(start.X)[s], to_numpy(start.Theta)[s])
        np.testing.assert_allclose(to_numpy(end.X)[s], X, atol=1e-8)
        np.testing.assert_allclose(to_numpy(end.Theta)[s], Theta, atol=1e-8)


@pytest.mark.parametrize("m, r, r_A", [(10, 5, 3), (40, 12, 3), (6, 6, 2), (12, 4, 4)])
@pytest.mark.parametrize("kappa", [1.0, 10.0, 1e4])
def test_one_undamped_step_is_exact_in_population_and_only_at_eta_1(m, r, r_A, kappa):
    seeds = problems.streams(0, 5)
    truth = problems.truth(m, problems.spectrum(r_A, kappa), seeds.truth)
    operator = operators.population(m, None, None)
    X = stiefel.random(m, r, seeds.start)
    start = methods.Directed(X, mT(X) @ truth.A @ X)
    error = {}
    for eta in (1.0, 0.9):
        step = methods.preconditioned_weight_normalization(eta, damping=0.0)
        state, _ = first_ask(step, start, operator, truth.A)
        error[eta] = np.median(np.sum((state.estimate - truth.A) ** 2, axis=(-2, -1)))
    assert error[1.0] <= 1e-24
    assert r == m or error[0.9] >= 1e-3  # r = m: nothing is left for X to find


def products(step, start, m, r, n, kappas, steps, level=1e-20, seeds=6):
    """Iterations to a squared error of `level` (seeds, κ), NaN where it is not reached."""
    streams = problems.streams(0, seeds)
    truth = problems.truth(m, np.stack([problems.spectrum(3, kappa) for kappa in kappas]), streams.truth)
    operator = operators.operator("triangular" if n >= m * (m + 1) / 2 else "dense", m, n, streams.operator)
    run = lockstep.Run(step, start(m, r, streams.start), None, truth.A)
    trace = lockstep.run(operator, {"run": run}, steps, record=np.arange(steps + 1), tolerance=level)["run"]
    return fits.first_below(trace.steps, trace.squared_error, level), trace


def test_preconditioning_frees_the_iterations_from_kappa():
    kappas = [10.0, 100.0, 1000.0, 1e4]
    for step, start in [
        (methods.preconditioned_weight_normalization(), methods.start_directed),
        (methods.preconditioned_weight_normalization(mu="exact"), methods.start_directed),
        (methods.one_product_weight_normalization(), methods.start_conjugate),
    ]:
        counts, _ = products(step, start, 10, 5, 60_000, kappas, 20, level=1e-24)
        assert np.max(counts) <= 20
        median = np.median(counts, axis=0)
        assert median[2] / median[0] <= 1.3


def test_exact_magnitude_converges_where_the_fixed_step_does_not():
    # r = m: X is square, Θ is all there is, and law 7 asks for n > 5.83 d.
    counts = {}
    for mu in (2.0, "exact"):
        step = methods.preconditioned_weight_normalization(mu=mu)
        counts[mu], _ = products(step, methods.start_directed, 16, 16, 600, [10.0], 80)
    assert np.all(np.isnan(counts[2.0])) and np.all(counts["exact"] <= 60)


@pytest.mark.parametrize("n", [1200, 420, 210])
def test_one_product_shrinks_the_error_by_the_conjugate_gradient_rate(n):
    # Marchenko–Pastur: ‖·‖_F falls by √(D/n) a product on D = 105 dimensions; between 1e-6 and 1e-20, squared.
    step = methods.one_product_weight_normalization()
    _, trace = products(step, methods.start_conjugate, 20, 6, n, [10.0, 1000.0], 150, seeds=12)
    slopes = [
        fits.exponential(trace.steps, error, 1e-6, 1e-20).slope for error in trace.squared_error.reshape(-1, 24).T
    ]
    np.testing.assert_allclose(np.median(slopes) / np.log(105 / n), 1, atol=0.15)


def test_one_product_never_raises_the_loss_of_its_best_point():
    # Exact line search: ‖M(W) − y‖ cannot rise, however bad the trial; E is the gradient at W to rounding.
    streams = problems.streams(0, 4)
    truth = problems.truth(8, problems.spectrum(2, 50.0), streams.truth)
    operator = operators.operator("dense", 8, 30, streams.operator)
    data = operators.data(operator, truth.A, 1e-2, streams.noise)
    state, step = methods.start_conjugate(8, 4, streams.start), methods.one_product_weight_normalization()
    losses = []
    for _ in range(60):
        state, _ = first_ask(step, state, operator, data)
        np.testing.assert_allclose(state.E, operator.normal(state.W)[0] - data, atol=1e-12)
        losses.append(np.sum(state.W * (state.E - data), axis=(-2, -1)))
    assert np.max(np.diff(losses, axis=0)) <= 1e-12


def test_preconditioned_recovers_from_fewer_measurements_than_dimensions():
    step = methods.preconditioned_weight_normalization()
    counts, trace = products(step, methods.start_directed, 20, 6, 100, [100.0], 700, level=1e-10)
    assert np.sum(np.isnan(counts)) == 0 and np.all(trace.squared_error[-1] <= 1e-10)
