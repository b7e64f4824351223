import numpy as np
import pytest
import scipy.fft
import scipy.optimize

from wnlib import lockstep, methods, operators, problems
from wnlib.backend import to_numpy
from wnlib.linalg import dim_sym, inner, mH, svec, sym
from wnlib.operators.cosine import _unblock

M = 8
# What draws each operator from (m, n, rng, xp), and the subspace of Sym(m) on which E[M*M] is the identity.
SYM = "Sym(m)"
BLOCK = "block"
HERMITIAN = "Hermitian"
FAMILIES = {
    "rademacher": (operators.rademacher, SYM),
    "rank-one": (operators.rank_one, SYM),
    "cosine": (operators.cosine, SYM),
    "cosine-block": (lambda m, n, rng, xp=np: operators.cosine(m, n, rng, xp, split=2), BLOCK),
    "entries": (operators.entries, SYM),
    "pauli": (operators.pauli, HERMITIAN),
}
# The kinds that are tested elsewhere.
ELSEWHERE = {"population": "test_dense", "dense": "test_dense", "triangular": "test_dense", "lazy": "test_lazy"}


def test_every_kind_of_operator_is_tested():
    """Adjointness, `normal`, stacks and E[M*M], here or elsewhere."""
    missing = operators.OPERATORS.keys() - FAMILIES.keys() - ELSEWHERE.keys()
    assert not missing, f"no line in FAMILIES for {', '.join(sorted(missing))}"
    assert ELSEWHERE.keys() <= operators.OPERATORS.keys()


def symmetric(shape, xp, seed=0, subspace=SYM):
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal(shape)
    return sym(xp.asarray(Z + 1j * rng.standard_normal(shape) if subspace == HERMITIAN else Z))


def seen(Z, subspace):
    """The part of Z that an operator of this subspace measures."""
    inside = np.ones((M, M), dtype=bool)
    if subspace == BLOCK:
        inside[:2, :2] = inside[2:, 2:] = False
    return Z * inside


@pytest.mark.parametrize("stack", [None, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_adjoint_and_normal_agree_with_measure(xp, family, stack):
    draw, subspace = FAMILIES[family]
    seeds = problems.streams(0, stack or 1).operator
    operator = draw(M, 7, seeds if stack else seeds[0], xp)
    assert operator.m == M and operator.stack == ((stack,) if stack else ())
    for lead in ((), (2,), (2, 4)):
        Z = symmetric((*operator.stack, *lead, M, M), xp, subspace=subspace)
        y = operator.measure(Z)
        w = xp.asarray(np.random.default_rng(1).standard_normal(y.shape))
        left = to_numpy(xp.sum(y * w, axis=-1))
        right = to_numpy(inner(Z, operator.adjoint(w)))[..., 0, 0]
        np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-12)
        normal, again = operator.normal(Z, 2 * Z)
        assert bool(xp.all(normal == mH(normal)))
        np.testing.assert_allclose(to_numpy(normal), to_numpy(operator.adjoint(y)), rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(to_numpy(again), 2 * to_numpy(normal), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_normal_is_the_identity_on_average(family):
    draw, subspace = FAMILIES[family]
    draws, Z = 1000, symmetric((M, M), np, seed=2, subspace=subspace)
    operator = draw(M, 7, problems.streams(1, draws).operator)
    (answers,) = operator.normal(np.broadcast_to(Z, (draws, M, M)))
    error = answers.mean(axis=0) - seen(Z, subspace)
    assert np.all(np.abs(error) <= 5 * answers.std(axis=0) / np.sqrt(draws) + 1e-15)


def test_rank_one_without_centring_adds_half_the_trace():
    draws, Z = 4000, symmetric((M, M), np, seed=3) + np.eye(M)
    operator = operators.rank_one(M, 7, problems.streams(2, draws).operator, centred=False)
    (answers,) = operator.normal(np.broadcast_to(Z, (draws, M, M)))
    spread = answers.std(axis=0) / np.sqrt(draws)
    assert np.all(np.abs(answers.mean(axis=0) - Z - 0.5 * np.trace(Z) * np.eye(M)) <= 5 * spread)
    assert np.any(np.abs(answers.mean(axis=0) - Z) > 20 * spread)


def test_rank_one_takes_the_quadratic_forms_of_its_vectors():
    operator = operators.rank_one(3, 4, np.random.default_rng(4))
    Z = symmetric((3, 3), np, seed=5)
    forms = [np.sum((np.outer(a, a) - np.eye(3)) * Z) / np.sqrt(8) for a in operator.vectors]
    np.testing.assert_allclose(operator.measure(Z), forms, rtol=1e-12)


def test_a_stack_of_operators_is_its_members_side_by_side():
    for draw, subspace in FAMILIES.values():
        Z = symmetric((2, 3, M, M), np, seed=6, subspace=subspace)
        (together,) = draw(M, 7, problems.streams(3, 2).operator).normal(Z)
        for member, g in enumerate(problems.streams(3, 2).operator):
            np.testing.assert_allclose(together[member], draw(M, 7, g).normal(Z[member])[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("family", ["cosine", "cosine-block", "entries", "pauli"])
def test_a_subsampled_rotation_squares_to_d_over_n_times_itself(family):
    draw, subspace = FAMILIES[family]
    d = {SYM: dim_sym(M), BLOCK: 2 * (M - 2), HERMITIAN: M * M}[subspace]
    n = d // 2
    operator = draw(M, n, np.random.default_rng(5))
    Z = symmetric((M, M), np, seed=7, subspace=subspace)
    (once,) = operator.normal(Z)
    (twice,) = operator.normal(once)
    np.testing.assert_allclose(twice, d / n * once, rtol=1e-12, atol=1e-13)
    assert np.count_nonzero(operator.measure(Z)) == n
    (all_of_it,) = draw(M, d, np.random.default_rng(5)).normal(Z)
    np.testing.assert_allclose(all_of_it, seen(Z, subspace), atol=1e-13)


def test_the_cosine_transform_is_the_textbooks_sum():
    # C_kj = √(2/d) cos(π(2j + 1)k/(2d)), its first row over √2.
    operator = operators.cosine(4, 10, np.random.default_rng(6))
    Z, d = symmetric((4, 4), np, seed=8), 10
    j, k = np.arange(d), np.arange(d)[:, None]
    C = np.sqrt(2 / d) * np.cos(np.pi * (2 * j + 1) * k / (2 * d))
    C[0] /= np.sqrt(2)
    np.testing.assert_allclose(operator.measure(Z), C @ (operator.signs * svec(Z)), atol=1e-13)
    assert set(operator.signs) <= {-1.0, 1.0} and 0 < np.sum(operator.signs == 1) < d


def test_a_rectangle_is_sensed_as_the_block_of_a_symmetric_matrix_by_the_very_same_methods():
    # On [[0, B], [Bᵀ, 0]] from a start diag(X, W), [[0, Θ], [Θᵀ, 0]], weight normalization is X Θ Wᵀ's own, written out
    # here with rectangles; gradient descent is that of F Gᵀ.
    p, q, r, eta = 5, 4, 3, 0.5
    rng = np.random.default_rng(7)
    operator = operators.cosine(p + q, 15, rng, split=p)
    truth = _unblock(rng.standard_normal(p * q), p, p + q)
    X, W = (np.linalg.qr(rng.standard_normal((size, r)))[0] for size in (p, q))
    Theta, F, G = 0.1 * rng.standard_normal((r, r)), *(0.3 * rng.standard_normal((size, r)) for size in (p, q))
    directed = methods.Directed(
        np.block([[X, np.zeros((p, r))], [np.zeros((q, r)), W]]),
        np.block([[np.zeros((r, r)), Theta], [Theta.T, np.zeros((r, r))]]),
    )
    data = operators.data(operator, truth)
    runs = {
        "wn": lockstep.Run(methods.weight_normalization(eta), directed, data, truth),
        "gd": lockstep.Run(methods.gradient_descent(eta), methods.Factored(np.concatenate([F, G])), data, truth),
    }
    traces = lockstep.run(operator, runs, 20)

    def gradient(B):  # of ½‖M(B) − y‖², coordinate by coordinate
        x = scipy.fft.dct(operator.signs * B.reshape(-1), norm="ortho") * operator.weights**2
        return (operator.signs * scipy.fft.idct(x, norm="ortho")).reshape(p, q)

    def retracted(X, G):
        left, _, right = np.linalg.svd(X - eta * (G - X @ (X.T @ G + G.T @ X) / 2), full_matrices=False)
        return left @ right

    B = truth[:p, p:]
    for _ in range(20):
        E = gradient(X @ Theta @ W.T - B)
        X, W = retracted(X, E @ W @ Theta.T), retracted(W, E.T @ X @ Theta)
        Theta = Theta - X.T @ gradient(X @ Theta @ W.T - B) @ W
        E = gradient(F @ G.T - B)
        F, G = F - eta * E @ G, G - eta * E.T @ F
    np.testing.assert_allclose(traces["wn"].state.estimate[:p, p:], X @ Theta @ W.T, atol=1e-11)
    np.testing.assert_allclose(traces["gd"].state.estimate[:p, p:], F @ G.T, atol=1e-11)
    assert traces["wn"].squared_error[-1] < 0.9 * traces["wn"].squared_error[0]


@pytest.mark.parametrize("size", [4, 5])
def test_the_entries_of_notebook_19_have_a_local_minimum_at_every_pattern_of_signs(size):
    epsilon = 0.05
    even = np.arange(size) % 2 == 0
    operator = operators.Entries(np.where(even[:, None] & even & ~np.eye(size, dtype=bool), epsilon, 1.0))
    z = even / np.sqrt(np.count_nonzero(even))
    truth = np.outer(z, z)

    def loss(y):
        return np.sum(operator.measure(np.outer(y, y) - truth) ** 2)

    patterns = [s for s in np.ndindex(*(2,) * size) if not any(np.array(s)[z == 0])]
    assert len(patterns) == 2 ** ((size + 1) // 2)
    values = []
    for pattern in patterns:
        found = scipy.optimize.minimize(loss, z * (1 - 2 * np.array(pattern)), tol=1e-12)
        assert np.array_equal(np.sign(found.x[z > 0]), 1 - 2 * np.array(pattern)[z > 0])
        step = 1e-4
        hessian = np.array(
            [
                [
                    (
                        loss(found.x + step * (a + b))
                        - loss(found.x + step * a)
                        - loss(found.x + step * b)
                        + loss(found.x)
                    )
                    for a in np.eye(size)
                ]
                for b in np.eye(size)
            ]
        )
        assert np.all(np.linalg.eigvalsh(hessian / step**2) > 0)
        values.append(found.fun)
    assert np.sum(np.array(values) < 1e-12) == 2  # z and −z; the others are spurious
    eigenvalues = (operator.weights**2)[np.triu_indices(size)]
    assert eigenvalues.min() == pytest.approx(epsilon**2) and eigenvalues.max() == 1


def test_noise_reaches_a_structured_operator_through_its_adjoint():
    m, n, S = 6, 10, 60
    d = dim_sym(m)
    for kind in ("rank-one", "cosine", "entries"):
        seeds = problems.streams(8, S)
        operator = operators.operator(kind, m, n, seeds.operator)
        data = operators.data(operator, np.zeros((S, 1, m, m)), 0.3, seeds.noise)
        # E‖M*(noise)‖² = s² tr M*M, and E tr M*M = d.
        assert np.mean(np.sum(data**2, axis=(-2, -1))) == pytest.approx(0.09 * d, rel=0.15)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_that_overflows_between_two_records_is_found_diverged(family):
    draw, _ = FAMILIES[family]
    A = problems.truth(M, [1.0], np.random.default_rng(9)).A
    runs = {
        "gd": lockstep.Run(
            methods.gradient_descent(100.0), methods.start_factored(M, 2, np.random.default_rng(9)), None, A
        )
    }
    trace = lockstep.run(draw(M, 7, np.random.default_rng(9)), runs, 40, record=[40])["gd"]
    assert trace.status.item() == lockstep.Status.DIVERGED
