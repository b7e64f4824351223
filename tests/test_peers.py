import numpy as np
import pytest
import textbook
from test_methods import first_ask, setting

from wnlib import lockstep, methods, operators, peers, problems
from wnlib.backend import to_numpy
from wnlib.linalg import inner, mH


def start_paired(m, r, rng, xp):
    L, R = (methods.start_factored(m, r, rng, scale, xp).Y for scale in (0.6, 0.2))
    return peers.Paired(L, R)


def start_thresholded(m, r, rng, xp):
    X, Theta = methods.start_directed(m, r, rng, xp)
    W = xp.zeros((*X.shape[:-2], m, m))
    return peers.Thresholded(X, Theta, W, W)


def start_factored(m, r, rng, xp):
    return methods.start_factored(m, r, rng, 1.0, xp)


def start_extrapolated(m, r, rng, xp):
    (Y,) = methods.start_factored(m, r, rng, 0.8, xp)
    return peers.Extrapolated(Y, 1.1 * Y)


def start_deflated(m, r, rng, xp):
    X, _ = methods.start_directed(m, r, rng, xp)
    return peers.Deflated(xp.zeros((*X.shape[:-2], m, m)), X)


def norm(E):
    return np.sqrt(np.sum(E**2))


# Each peer: wnlib's step, its start, and the textbook's estimate from measurement matrices, data and that start.
PEERS = {
    "ScaledGD": (
        peers.scaled_gradient_descent(0.4, 0.02),
        start_factored,
        lambda Ms, y, Y: square(textbook.scaled_gradient_descent(Ms, y, Y, 0.4, 0.02, STEPS)),
    ),
    "PrecGD": (
        peers.preconditioned_gradient_descent(0.4, 0.3),
        start_factored,
        lambda Ms, y, Y: square(textbook.scaled_gradient_descent(Ms, y, Y, 0.4, lambda E: 0.3 * norm(E), STEPS)),
    ),
    "Levenberg–Marquardt": (
        peers.levenberg_marquardt(0.6, 0.4),
        start_factored,
        lambda Ms, y, Y: square(textbook.levenberg_marquardt(Ms, y, Y, 0.6, 0.4, STEPS)),
    ),
    "MiFGD": (
        peers.momentum_gradient_descent(0.3, 0.5),
        start_extrapolated,
        lambda Ms, y, Y, P: square(textbook.momentum_gradient_descent(Ms, y, Y, P, 0.3, 0.5, STEPS)),
    ),
    "recursive WN": (
        peers.recursive_weight_normalization(0.5, 4, 0.8),
        start_deflated,
        lambda Ms, y, W, X: textbook.recursive_weight_normalization(Ms, y, X, 0.5, 0.8, 4, STEPS),
    ),
    "Gauss–Newton": (
        peers.gauss_newton(3),
        start_thresholded,
        lambda Ms, y, X, *rest: textbook.gauss_newton(Ms, y, X, 3, STEPS),
    ),
    "RGrad": (
        peers.gauss_newton(1),
        start_thresholded,
        lambda Ms, y, X, *rest: textbook.riemannian_gradient_descent(Ms, y, X, STEPS),
    ),
    "AGN": (
        peers.approximate_gauss_newton(0.6),
        start_paired,
        lambda Ms, y, L, R: both(textbook.approximate_gauss_newton(*nonsymmetric(Ms, y), L, R, 0.6, STEPS)),
    ),
    "IHT": (
        peers.iterative_hard_thresholding(0.5, 0.3),
        start_thresholded,
        lambda Ms, y, X, *rest: textbook.iterative_hard_thresholding(Ms, y, X, 0.5, 0.3, STEPS),
    ),
    "NIHT": (
        peers.normalized_iterative_hard_thresholding(0.2),
        start_thresholded,
        lambda Ms, y, X, *rest: textbook.iterative_hard_thresholding(Ms, y, X, None, 0.2, STEPS),
    ),
    "CGIHT": (
        peers.conjugate_gradient_iterative_hard_thresholding(),
        start_thresholded,
        lambda Ms, y, X, *rest: textbook.conjugate_gradient_iterative_hard_thresholding(Ms, y, X, STEPS),
    ),
}
STEPS = 6  # enough for every term to count, few enough that the errors are still far from rounding


def square(Y):
    return Y @ Y.T


def both(LR):
    return 0.5 * (LR[0] @ LR[1].T + LR[1] @ LR[0].T)


def nonsymmetric(Ms, y):
    extended = textbook.with_skew(Ms)
    return extended, np.concatenate([y, np.zeros(len(extended) - len(Ms))])


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_the_textbooks(xp, name):
    step, make_start, reference = PEERS[name]
    m, r, S = 6, 3, 3
    seeds, truth, operator, data = setting(xp, m, r, S=S)
    start = make_start(m, r, seeds.start, xp)
    trace = lockstep.run(operator, {name: lockstep.Run(step, start, data, truth.A)}, STEPS)[name]
    assert np.all((trace.squared_error[-1] > 1e-12) & (trace.squared_error[-1] < trace.squared_error[0]))
    for s in range(S):
        Ms = textbook.matrices(to_numpy(operator.matrix)[s], m)
        y = np.einsum("ijk,jk->i", Ms, to_numpy(truth.A)[s])
        expected = reference(Ms, y, *(to_numpy(field)[s] for field in start))
        np.testing.assert_allclose(to_numpy(trace.state.estimate)[s], expected, atol=1e-10)


def test_recursive_weight_normalization_learns_the_eigenpairs_one_by_one():
    """In population, μ = 2: after k long steps what is left of A are its singular values from the (k + 1)-th on."""
    rng, sigma = np.random.default_rng(0), np.array([1.0, 0.6, 0.3])
    A = problems.truth(12, sigma, rng).A
    run = lockstep.Run(peers.recursive_weight_normalization(1.0, 400), start_deflated(12, 4, rng, np), None, A)
    trace = lockstep.run(operators.Population(12), {"": run}, 3, record=range(4))[""]
    np.testing.assert_allclose(trace.squared_error, [1.45, 0.45, 0.09, 0], atol=1e-9)
    assert list(trace.products) == [0, 800, 1600, 2400]


def start_passed(m, r, rng, xp):
    zero = xp.zeros((m, m))
    return peers.Passed(zero, zero, zero[:1, :1])


def test_message_passing_is_the_textbooks(xp):
    m, n, steps = 12, 60, 4
    _, truth, operator, data = setting(xp, m, 3, S=2, n=n)
    start = start_passed(m, 3, None, xp)
    run = lockstep.Run(peers.approximate_message_passing(n), start, data, truth.A)
    trace = lockstep.run(operator, {"": run}, steps)[""]
    for s in range(2):
        Ms = textbook.matrices(to_numpy(operator.matrix)[s], m)
        y = np.einsum("ijk,jk->i", Ms, to_numpy(truth.A)[s])
        expected = textbook.approximate_message_passing(Ms, y, steps)
        np.testing.assert_allclose(to_numpy(trace.state.estimate)[s], expected, atol=1e-5)  # of the differences


def test_message_passing_finds_the_rank_from_fewer_measurements_than_unknowns():
    """Below half of d measurements, where least squares is blind, at the published method's sizes: large m."""
    m, n = 60, 700
    rng = np.random.default_rng(0)
    operator = operators.operator("dense", m, n, rng)
    A = problems.truth(m, [1, 0.5, 0.1], rng).A
    run = lockstep.Run(peers.approximate_message_passing(n), start_passed(m, 3, rng, np), None, A)
    trace = lockstep.run(operator, {"": run}, 60)[""]
    assert trace.squared_error[-1] < 1e-12
    assert np.sum(np.linalg.eigvalsh(trace.state.estimate) > 1e-8) == 3


@pytest.mark.parametrize("known", ["data", "truth"])
def test_gdpolyak_is_the_textbooks_however_it_is_told_the_loss(xp, known):
    m, r, steps = 6, 3, 3
    seeds, truth, operator, data = setting(xp, m, r, S=1)
    c = xp.sum(operator.measure(truth.A) ** 2, axis=-1)[..., None, None]
    loss = {"data": lambda Z, E: inner(Z, E - data) + c, "truth": lambda Z, E: inner(Z - truth.A, E)}[known]
    start = methods.start_factored(m, r, seeds.start, 0.7, xp)
    step = peers.polyak_gradient_descent(0.2, loss, 4)
    trace = lockstep.run(operator, {"": lockstep.Run(step, start, data, truth.A)}, steps, record=[1, 2])[""]
    assert trace.products.tolist() == [0, 5, 10, 15]
    Ms = textbook.matrices(to_numpy(operator.matrix)[0], m)
    y = np.einsum("ijk,jk->i", Ms, to_numpy(truth.A)[0])
    expected = square(textbook.polyak_gradient_descent(Ms, y, to_numpy(start.Y)[0], 0.2, 4, steps))
    np.testing.assert_allclose(to_numpy(trace.state.estimate)[0], expected, atol=1e-10)


def test_gauss_newton_and_hard_thresholding_are_exact_in_population():
    # L₊ = A(R⁺)ᵀ leaves only the row space of R to find, which R₊ does; the eigenvectors of Z − E = A are A's.
    seeds, truth, operator, data = setting(np, kind="population")
    eigenvectors = np.linalg.eigh(truth.A)[1][..., -3:]
    for step, start in (
        (peers.approximate_gauss_newton(1.0), start_paired(6, 3, seeds.start, np)),
        (peers.iterative_hard_thresholding(1.0), start_thresholded(6, 3, seeds.start, np)),
        (peers.gauss_newton(1), peers.Thresholded(eigenvectors, *start_thresholded(6, 3, seeds.start, np)[1:])),
    ):
        state, _ = first_ask(step, start, operator, data)
        np.testing.assert_allclose(state.estimate, truth.A, atol=1e-12)


@pytest.mark.parametrize("name", PEERS)
def test_a_member_that_blows_up_leaves_the_others_alone(xp, name):
    step, make_start, _ = PEERS[name]
    seeds, _, operator, data = setting(xp, S=2)
    start = make_start(6, 3, seeds.start, xp)
    lost = xp.asarray(np.array([1.0, np.nan]))[:, None, None]
    ends = [first_ask(step, type(start)(*(f * spoil for f in start)), operator, data)[0] for spoil in (1.0, lost)]
    sound, mixed = (to_numpy(end.estimate) for end in ends)
    np.testing.assert_allclose(mixed[0], sound[0], atol=1e-13)
    assert np.all(np.isnan(mixed[1]))


@pytest.mark.parametrize("name", ["ScaledGD", "PrecGD", "Levenberg–Marquardt", "MiFGD", "IHT", "CGIHT", "Gauss–Newton"])
def test_a_peer_recovers_a_hermitian_matrix_and_turns_with_it(name):
    """Z ↦ QZQᴴ, Q unitary, commutes with a step where M*M is the identity: complex states are treated as real ones."""
    m, r, rng = 6, 3, np.random.default_rng(0)
    Q = np.linalg.qr(rng.standard_normal((m, m)) + 1j * rng.standard_normal((m, m)))[0]
    step, make_start, _ = PEERS[name]
    start = make_start(m, r, rng, np)
    U = np.linalg.qr(rng.standard_normal((m, 2)))[0]
    A = U @ np.diag([1, 0.5]) @ U.T
    turned = [Q @ f @ mH(Q) if f.shape == (m, m) else Q @ f if f.shape == (m, r) else f for f in start]
    ends = []
    for A_, state in ((A, start), (Q @ A @ mH(Q), type(start)(*turned))):
        for _ in range(4):
            asked = step(state)
            try:
                Z = next(asked)
                while True:
                    Z = asked.send(0.9 * (Z - A_))  # a multiple of the identity, so that nothing ends at once
            except StopIteration as done:
                state = done.value
        ends.append(state.estimate)
    np.testing.assert_allclose(ends[1], Q @ ends[0] @ mH(Q), atol=1e-10)
