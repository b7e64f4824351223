import itertools
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import LinearOperator

import wnlib
from wnlib import continuation, linalg, operators
from wnlib.backend import to_numpy
from wnlib.operators.given import Problem

Point, freedom = continuation.Point, linalg.degrees_of_freedom


def gaussian(g, *shape, complex=False):
    x = g.standard_normal(shape)
    return x + 1j * g.standard_normal(shape) if complex else x


def problem(m, r, factor, seed, q=None, complex=False, kappa=10.0, n=None):
    """Measurements (n, m, q or m), their values, and the matrix of rank r, Hermitian unless q is given."""
    g = np.random.default_rng([seed, m, r])
    sigma = np.geomspace(1, 1 / kappa, r)
    U = np.linalg.qr(gaussian(g, m, r, complex=complex))[0]
    V = U if q is None else np.linalg.qr(gaussian(g, q, r, complex=complex))[0]
    A = (U * sigma) @ V.conj().T
    free = freedom(m, q or m, r, q is None, 2 if complex else 1)
    n = n or int(np.ceil(factor * free)) + 2
    M = gaussian(g, n, m, q or m, complex=complex)
    if q is None:
        M = (M + np.conj(np.swapaxes(M, 1, 2))) / 2
    y = np.sum(M.conj() * A, axis=(1, 2))
    return M, (y.real if q is None else y), A


def functions(M):
    return lambda Z: np.sum(M.conj() * Z, axis=(1, 2)), lambda w: np.tensordot(w, M, 1)


def linear(M):
    flat = M.reshape(M.shape[0], -1)
    return LinearOperator(flat.shape, dtype=M.dtype, matvec=lambda z: flat.conj() @ z, rmatvec=lambda w: w @ flat)


def error(result, A):
    return np.linalg.norm(to_numpy(result.matrix) - A) / np.linalg.norm(A)


@settings(max_examples=25)
@given(
    m=st.integers(4, 10),
    r=st.integers(1, 2),
    q=st.one_of(st.none(), st.integers(4, 8)),
    complex=st.booleans(),
    scale=st.sampled_from([1e-160, 1e-6, 1.0, 1e160]),
    form=st.sampled_from([lambda M: M, functions, linear]),
    seed=st.integers(0, 1000),
)
def test_the_matrix_and_its_rank_come_out_of_every_form_of_input(m, r, q, complex, scale, form, seed):
    M, y, A = problem(m, r, 2.5, seed, q, complex)
    q = q or m
    square = {"hermitian": False} if q == m and M.shape[1:] == (m, m) and not np.allclose(A, A.conj().T) else {}
    result = wnlib.recover(form(scale * M), scale * y, (m, q), **square)
    assert result.success and result.rank == r and error(result, A) < 1e-7
    X, W = result.X, result.W
    assert np.allclose(X.conj().T @ X, np.eye(r)) and np.allclose(W.conj().T @ W, np.eye(r))
    assert np.allclose(X @ result.Theta @ W.conj().T, result.matrix)


def test_all_forms_agree_and_a_seed_gives_the_same_answer():
    M, y, A = problem(8, 2, 1.3, 3)
    results = [wnlib.recover(form(M), y, 8, seed=4) for form in (lambda M: M, functions, linear, lambda M: M)]
    assert all(error(result, A) < 1e-8 for result in results)
    assert np.array_equal(results[0].matrix, results[3].matrix)
    assert len({result.products for result in results}) == 1


@pytest.mark.parametrize("complex", [False, True])
@pytest.mark.parametrize("q", [None, 6])
def test_every_backend_gives_the_same(xp, q, complex):
    M, y, A = problem(7, 2, 2.0, 1, q, complex)
    result = wnlib.recover(xp.asarray(M), xp.asarray(y))
    assert result.success and result.rank == 2 and error(result, A) < 1e-8


@pytest.mark.parametrize("kind", ["dense", "cosine", "rank-one", "entries"])
def test_operators_of_ours_are_taken_as_they_are(kind):
    M = operators.operator(kind, 12, 70, np.random.default_rng(2))
    _, _, A = problem(12, 2, 2.0, 5)
    result = wnlib.recover(M, M.measure(A))
    assert result.success and error(result, A) < 1e-7


def test_float32_is_kept_and_reaches_its_precision():
    M, y, A = problem(10, 2, 3.0, 2)
    result = wnlib.recover(M.astype(np.float32), y)
    assert result.success and result.matrix.dtype == np.float32 and error(result, A) < 1e-4


def test_matrices_that_are_not_symmetric_measure_a_symmetric_one():
    M, _, A = problem(9, 2, 2.0, 4)
    skew = np.random.default_rng(0).standard_normal(M.shape)
    result = wnlib.recover(M + skew - np.swapaxes(skew, 1, 2), np.sum(M * A, axis=(1, 2)))
    assert result.success and error(result, A) < 1e-8


@pytest.mark.parametrize("kappa", [10.0, 1000.0])
def test_few_measurements_suffice_whatever_the_condition_number(kappa):
    for seed in range(6):
        M, y, A = problem(20, 3, 0, seed, kappa=kappa, n=69)  # 1.2 times the 57 degrees of freedom
        result = wnlib.recover(M, y)
        assert result.success and error(result, A) < 1e-6


def test_other_weights_free_a_path_that_is_stuck():
    """1.05 degrees of freedom: some first paths end in a spurious minimum, whose products a restart's exceed."""
    stuck = 0
    for seed in range(8):
        M, y, A = problem(12, 2, 0, seed, n=24)
        ranks = []
        result = wnlib.recover(
            M, y, max_products=20_000, callback=lambda rank, residual, products, ranks=ranks: ranks.append(rank)
        )
        assert result.success and error(result, A) < 1e-4
        stuck += any(now < before for before, now in itertools.pairwise(ranks))
    assert stuck


def test_products_are_few_where_measurements_abound():
    M, y, _ = problem(20, 3, 3.0, 1, kappa=1000.0)
    assert wnlib.recover(M, y).products <= 80


@pytest.mark.parametrize("complex", [False, True])
@pytest.mark.parametrize("known", [True, False])
def test_noise_leaves_the_error_of_least_squares_on_the_true_tangent_space(known, complex):
    M, y, A = problem(12, 2, 0, 6, complex=complex, n=500, kappa=2.0)
    noise = 0.05 * np.random.default_rng(1).standard_normal(y.shape)
    result = wnlib.recover(M, y + noise, **({"noise_std": 0.05} if known else {}))
    U = np.linalg.eigh(A)[1][:, -2:]
    point = Point(U, np.ones(2), U)
    basis = np.eye(144).reshape(144, 12, 12)
    basis = np.concatenate([basis + np.swapaxes(basis, 1, 2), 1j * (basis - np.swapaxes(basis, 1, 2))][: 1 + complex])
    tangents = np.array([continuation.tangent(point, Z, True) for Z in basis])
    columns = np.real(np.tensordot(M.conj(), tangents, ([1, 2], [1, 2])))
    weights = np.linalg.lstsq(columns, noise, rcond=1e-10)[0]
    oracle = np.linalg.norm(np.tensordot(weights, tangents, 1))
    assert result.success and result.rank == 2
    assert np.linalg.norm(result.matrix - A) <= 1.2 * oracle
    assert np.isclose(result.noise_std, 0.05, rtol=0.1)


def test_noise_that_is_known_is_not_taken_for_rank():
    """Chance made the rank too high in a fifth of such problems while one random sign flip judged it."""
    ranks = []
    for seed in range(30):
        M, y, _ = problem(10, 2, 4, seed)
        std = 0.02 * np.linalg.norm(y) / y.size**0.5
        noisy = y + std * np.random.default_rng(seed).standard_normal(y.shape)
        ranks.append(wnlib.recover(M, noisy, noise_std=std).rank)
    assert min(ranks) == 2 and np.mean(np.array(ranks) > 2) <= 0.1


def test_success_tells_the_truth():
    M, y, _ = problem(14, 3, 0, 0, n=37)  # rank 3 has 39 degrees of freedom
    with pytest.warns(RuntimeWarning, match="not recovered within max_products = 600 at rank ≤ 2"):
        assert not wnlib.recover(M, y, max_products=600, noise_std=0.0).success
    M, y, _ = problem(14, 3, 1.3, 0)
    noisy = y + 0.1 * np.random.default_rng(0).standard_normal(y.shape)
    with pytest.warns(RuntimeWarning, match="give more, or noise_std if this is noise"):
        assert not wnlib.recover(M, noisy, max_products=600).success
    M, y, _ = problem(14, 2, 4, 0)
    noisy = y + 0.1 * np.random.default_rng(0).standard_normal(y.shape)
    with pytest.warns(RuntimeWarning, match=r"noise_std = 0\.01 is too small for it: 0\.(09|1)"):
        result = wnlib.recover(M, noisy, noise_std=0.01, max_products=600)
    assert not result.success and result.rank == 2
    g = np.random.default_rng(0)
    general = g.standard_normal((14, 1)) @ g.standard_normal((1, 14))
    M = g.standard_normal((300, 14, 14))
    with pytest.warns(RuntimeWarning, match="hermitian=False"):
        wnlib.recover(M, np.sum(M * general, axis=(1, 2)), max_products=600)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wnlib.recover(M, np.sum(M * general, axis=(1, 2)), hermitian=False).success


def test_a_residual_is_not_taken_for_noise_where_something_tells_otherwise():
    M, y, _ = problem(14, 2, 6, 1)
    for told, wrong, options in (
        ("leave psd out, or check the sign of y", -y, {"psd": True}),
        ("no matrix is seen in y", np.random.default_rng(0).permutation(y), {}),
    ):
        with pytest.warns(RuntimeWarning, match=told):
            assert not wnlib.recover(M, wrong, max_products=4000, **options).success
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noisy = y + 0.3 * np.std(y) * np.random.default_rng(0).standard_normal(y.shape)
        assert wnlib.recover(M, noisy, psd=True).success


def test_what_is_known_is_used():
    M, y, _ = problem(10, 2, 2.0, 1)
    assert wnlib.recover(M, y, rank=2).rank == 2
    assert np.linalg.eigvalsh(wnlib.recover(M, y, psd=True).matrix)[0] > -1e-12
    loose = wnlib.recover(M, y, tol=1e-2)
    assert loose.success and loose.residuals[-1] <= 1e-2 and loose.products <= wnlib.recover(M, y).products
    M, y, _ = problem(10, 2, 0, 1, kappa=2.0, n=100)
    with pytest.warns(RuntimeWarning, match="at rank ≤ 1"):
        assert wnlib.recover(M, y, max_rank=1, max_products=300).rank == 1


def test_the_callback_sees_each_step_and_may_end_the_search():
    M, y, _ = problem(10, 2, 2.0, 1)
    seen = []
    result = wnlib.recover(M, y, callback=lambda *step: seen.append(step))
    assert [residual for _, residual, _ in seen] == list(result.residuals[:-1])
    assert [products for *_, products in seen] == sorted(products for *_, products in seen)
    with pytest.warns(RuntimeWarning, match="stopped by the callback at rank 1"):
        assert not wnlib.recover(M, y, callback=lambda rank, residual, products: True).success


@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("complex", [True, False])
def test_tangents_project_and_the_retraction_is_second_order(hermitian, complex):
    g = np.random.default_rng(0)
    X, W = (np.linalg.qr(gaussian(g, 7, 2, complex=complex))[0] for _ in range(2))
    point = Point(X, np.array([2.0, 1.0]), X if hermitian else W)
    E, F = gaussian(g, 7, 7, complex=complex), gaussian(g, 7, 7, complex=complex)
    if hermitian:
        E, F = E + E.conj().T, F + F.conj().T
    TE, TF = (continuation.tangent(point, Z, hermitian) for Z in (E, F))
    assert np.allclose(continuation.tangent(point, TE, hermitian), TE)
    assert np.isclose(np.vdot(TE, F).real, np.vdot(E, TF).real)
    gaps = [
        np.linalg.norm(continuation.retract(point, t * TE, hermitian).matrix - point.matrix - t * TE)
        for t in (1e-2, 1e-3)
    ]
    assert 1.8 < np.log10(gaps[0] / gaps[1]) < 2.2


@pytest.mark.parametrize("hermitian", [True, False])
@pytest.mark.parametrize("field", [1, 2])
def test_degrees_of_freedom_are_the_dimension_of_the_tangent_space(hermitian, field):
    g = np.random.default_rng(0)
    X, W = (np.linalg.qr(gaussian(g, 5, 2, complex=field == 2))[0] for _ in range(2))
    point = Point(X, np.ones(2), X if hermitian else W)
    drawn = [gaussian(g, 5, 5, complex=field == 2) for _ in range(60)]
    drawn = [Z + Z.conj().T for Z in drawn] if hermitian else drawn
    tangents = np.array([continuation.tangent(point, Z, hermitian).ravel() for Z in drawn])
    assert np.linalg.matrix_rank(np.hstack([tangents.real, tangents.imag])) == freedom(5, 5, 2, hermitian, field)


M, Y, _ = problem(4, 1, 3.0, 0)
FORWARD, ADJOINT = functions(M)
NAN = np.where(np.arange(Y.size) == 0, np.nan, Y)
BAD = {
    "y a list": (TypeError, (M, list(Y)), "y is a list"),
    "y a scalar": (TypeError, (M, 1.0), "y is a float"),
    "y missing": (TypeError, (M, None), "y is a NoneType"),
    "y a matrix": (ValueError, (M, Y[:, None]), "y has shape"),
    "y empty": (ValueError, (M, Y[:0]), "y has shape"),
    "y text": (TypeError, (M, np.array(["a"] * Y.size)), "y has dtype|y is"),
    "y bool": (TypeError, (M, Y > 0), "y has dtype bool"),
    "y NaN": (ValueError, (M, NAN), "y has entries"),
    "y infinite": (ValueError, (M, Y + np.inf), "y has entries"),
    "y zero": (ValueError, (M, 0 * Y), "y is zero"),
    "y short": (ValueError, (M, Y[:-1]), "M has shape"),
    "y long": (ValueError, (M, np.append(Y, 1.0)), "M has shape"),
    "M a list of lists": (TypeError, (M.tolist(), Y), "numpy.asarray makes one of a list"),
    "M a string": (TypeError, ("M", Y), "M is a str"),
    "M None": (TypeError, (None, Y), "M is a NoneType"),
    "M a number": (TypeError, (3, Y), "M is a int"),
    "M one matrix": (ValueError, (M[0], Y), "M has shape"),
    "M a vector": (ValueError, (M[0, 0], Y), "M has shape"),
    "M flat": (ValueError, (M.reshape(Y.size, -1), Y), "M has shape"),
    "M 4-dimensional": (ValueError, (M[None], Y), "M has shape"),
    "M of no rows": (ValueError, (M[:, :0], Y), "M has shape"),
    "M bool": (TypeError, (M > 0, Y), "M has dtype bool"),
    "M NaN": (ValueError, (np.where(M[0, 0, 0] == M, np.nan, M), Y), "M has entries"),
    "M infinite": (ValueError, (np.where(M[0, 0, 0] == M, np.inf, M), Y), "M has entries"),
    "M one function": (TypeError, ((FORWARD,), Y), "pair of functions"),
    "one function and shape": (TypeError, ((FORWARD,), Y, 4), "pair of functions"),
    "three functions": (TypeError, ((FORWARD, ADJOINT, FORWARD), Y, 4), "pair of functions"),
    "function without adjoint": (TypeError, (FORWARD, Y, 4), "pair of functions"),
    "pair of arrays": (TypeError, ((M, M), Y, 4), "pair of functions"),
    "shape missing": (ValueError, ((FORWARD, ADJOINT), Y), "shape is missing"),
    "shape of another": (ValueError, (M, Y, 5), "shape = "),
    "shape a triple": (TypeError, (M, Y, (1, 2, 3)), "shape = "),
    "shape a float": (TypeError, (M, Y, 4.0), "shape = "),
    "shape zero": (ValueError, (M, Y, 0), "shape = 0"),
    "shape negative": (ValueError, (M, Y, (-4, 4)), "shape = -4"),
    "shape text": (TypeError, (M, Y, "44"), "shape = "),
    "adjoint of another shape": (ValueError, ((FORWARD, lambda w: ADJOINT(w)[:2]), Y, 4), r"adjoint\(w\) gave"),
    "adjoint gives a list": (ValueError, ((FORWARD, lambda w: ADJOINT(w).tolist()), Y, 4), r"adjoint\(w\) gave list"),
    "adjoint scaled": (ValueError, ((FORWARD, lambda w: 2 * ADJOINT(w)), Y, 4), "must agree"),
    "adjoint of others": (ValueError, ((FORWARD, lambda w: ADJOINT(w[::-1])), Y, 4), "must agree"),
    "forward of another length": (ValueError, ((lambda Z: FORWARD(Z)[:3], ADJOINT), Y, 4), r"forward\(Z\) gave"),
    "forward gives None": (ValueError, ((lambda Z: None, ADJOINT), Y, 4), r"forward\(Z\) gave NoneType"),
    "forward affine": (ValueError, ((lambda Z: FORWARD(Z) + 1, ADJOINT), Y, 4), "must be linear"),
    "forward quadratic": (ValueError, ((lambda Z: FORWARD(Z) ** 2, ADJOINT), Y, 4), "must be linear"),
    "LinearOperator transposed": (ValueError, (linear(M).T, Y, 4), "M has shape"),
    "LinearOperator without rmatvec": (TypeError, (SimpleNamespace(matvec=FORWARD), Y, 4), "matvec and rmatvec"),
    "LinearOperator without shape": (ValueError, (linear(M), Y), "shape is missing"),
    "operators in a stack": (
        ValueError,
        (operators.gaussian(4, Y.size, [np.random.default_rng(0)]), Y),
        "stack",
    ),
    "an operator and another shape": (ValueError, (operators.gaussian(4, Y.size, np.random.default_rng(0)), Y, 5), "="),
    "y masked": (TypeError, (M, np.ma.masked_greater(Y, 0)), "masked"),
    "y extended": (TypeError, (M, Y.astype(np.longdouble)), "y has dtype"),
    "y complex of Hermitian M": (ValueError, (M, Y + 0j), "give the real part of y"),
    "y complex of ours": (TypeError, (operators.gaussian(4, Y.size, np.random.default_rng(0)), Y + 0j), "y is complex"),
    "y and M beyond range": (ValueError, (M * 1e-200, Y * 1e200), "out of range"),
    "M extended": (TypeError, (M.astype(np.longdouble), Y), "M has dtype"),
    "M without measure": (TypeError, (operators.lazy(4, 20, np.random.default_rng(0)), Y), "no `measure`"),
    "M zero": (ValueError, (0 * M, Y), "y has 0 numbers that see a matrix"),
    "forward of less precision": (
        TypeError,
        ((lambda Z: FORWARD(Z).astype("f4"), ADJOINT), Y, 4),
        "gave float32: must be as precise as y, float64",
    ),
    "forward gives NaN": (ValueError, ((lambda Z: FORWARD(Z) + np.nan, ADJOINT), Y, 4), "NaN or infinite"),
    "LinearOperator with matvec alone": (
        TypeError,
        (LinearOperator((Y.size, 16), matvec=lambda z: M.reshape(Y.size, 16) @ z), Y, 4),
        "without rmatvec",
    ),
    "too few": (ValueError, (M[:4], Y[:4]), "y has 4 numbers that see a matrix: must be more than 4"),
}
BAD_OPTIONS = {
    "hermitian text": (TypeError, {"hermitian": "no"}, "hermitian = 'no'"),
    "psd a number": (TypeError, {"psd": 1.0}, "psd = 1.0"),
    "psd of no Hermitian": (ValueError, {"psd": True, "hermitian": False}, "psd = True"),
    "rank zero": (ValueError, {"rank": 0}, "rank = 0"),
    "rank a float": (TypeError, {"rank": 1.0}, "rank = 1.0"),
    "rank beyond m": (ValueError, {"rank": 5}, "rank = 5"),
    "max_rank zero": (ValueError, {"max_rank": 0}, "max_rank = 0"),
    "both ranks": (ValueError, {"rank": 1, "max_rank": 2}, "must be one of them"),
    "noise negative": (ValueError, {"noise_std": -1.0}, "noise_std = -1"),
    "noise text": (TypeError, {"noise_std": "0.1"}, "noise_std = '0.1'"),
    "noise of each": (TypeError, {"noise_std": np.ones(Y.size)}, "divide each y_i and M_i by its own"),
    "noise NaN": (ValueError, {"noise_std": np.nan}, "noise_std = nan"),
    "tol zero": (ValueError, {"tol": 0}, "tol = 0"),
    "tol below rounding": (ValueError, {"tol": 1e-16}, "tol = 1e-16"),
    "tol of all": (ValueError, {"tol": 1.0}, "tol = 1: must be below 1"),
    "tol text": (TypeError, {"tol": "1e-3"}, "tol = '1e-3'"),
    "no products": (ValueError, {"max_products": 0}, "max_products = 0"),
    "products a float": (TypeError, {"max_products": 1e3}, "max_products = 1000.0"),
    "callback no function": (TypeError, {"callback": 3}, "callback = 3"),
    "seed negative": (ValueError, {"seed": -1}, "seed = -1"),
    "seed a generator": (TypeError, {"seed": np.random.default_rng(0)}, "seed = "),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line(name):
    kind, arguments, words = BAD[name]
    with pytest.raises(kind, match=words) as caught:
        wnlib.recover(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options_are_refused_in_one_line(name):
    kind, options, words = BAD_OPTIONS[name]
    with pytest.raises(kind, match=words) as caught:
        wnlib.recover(M, Y, **options)
    assert "\n" not in str(caught.value)


def test_a_rank_with_more_freedom_than_measurements_is_refused():
    with pytest.raises(ValueError, match=r"rank = 3: must be at most 2; .* 9 degrees of freedom"):
        wnlib.recover(M[:9], Y[:9], rank=3)


def test_measurements_of_your_own_are_shown_the_way():
    with pytest.raises(TypeError, match=r"wnlib\.recover"):
        wnlib.run((FORWARD, ADJOINT), {}, 5)
    with pytest.raises(ValueError, match="svec"):
        operators.Dense(M)


def completion(m, r, n, seed):
    """n entries of a matrix (m, m) of rank r, seen through functions; y and A."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, r)) @ rng.standard_normal((r, m))
    seen = rng.choice(m * m, n, replace=False)

    def adjoint(w):
        E = np.zeros(m * m)
        E[seen] = w
        return E.reshape(m, m)

    return (lambda Z: Z.reshape(-1)[seen]), adjoint, A.reshape(-1)[seen], A


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_answer_that_the_measurements_do_not_single_out_is_none():
    """Few single entries: what explains them often moves along a direction that none of them sees."""
    wrong = 0
    for seed in range(12):
        forward, adjoint, y, A = completion(20, 1, 70, seed)  # of rank 1 with 39 degrees of freedom
        found = wnlib.recover((forward, adjoint), y, 20, hermitian=False, noise_std=0.0, max_products=1000)
        assert not found.success or error(found, A) < 1e-6
        wrong += "do not tell this matrix from others near it" in found.message
    assert wrong


def test_the_uniqueness_of_a_point_is_that_of_its_jacobian():
    """Held against the singular values of M on the tangent space, written out."""
    for seed in range(8):
        forward, adjoint, y, A = completion(8, 2, 34, seed)
        problem = Problem((forward, adjoint), y, 8, False, np.random.default_rng(0))
        U, s, Vh = np.linalg.svd(A)
        point = continuation.Point(U[:, :2], s[:2], Vh[:2].T)
        units = np.eye(64).reshape(64, 8, 8)
        J = np.stack([forward(continuation.tangent(point, unit, False)) for unit in units])
        rank = np.linalg.matrix_rank(J, tol=1e-9)
        assert continuation.unique(problem, point, 0.01) == (rank == 28)  # r(2m − r)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_search_that_is_cut_short_is_no_success():
    M, y, A = problem(12, 2, 0, 0, n=200)
    for options in ({"max_products": 3}, {"callback": lambda *_: np.True_}):
        found = wnlib.recover(M, y, **options)
        assert not found.success and "taken for noise" not in found.message
        assert error(found, A) > 1e-3


def test_noise_alone_is_explained_by_the_matrix_0():
    M, _, _ = problem(12, 2, 0, 0, n=200)
    found = wnlib.recover(M, 0.1 * np.random.default_rng(0).standard_normal(200), noise_std=0.1)
    assert found.success and found.rank == 0 and found.X.shape == (12, 0) and not np.any(found.matrix)


def test_symmetric_measurements_do_not_tell_that_a_matrix_is_not_symmetric():
    """The skew part of their adjoint is rounding, and rounding is no sign of anything."""
    for seed in range(10):
        M, _, A = problem(12, 2, 0, seed, n=200)
        M = 0.5 * (M + np.swapaxes(M, 1, 2))
        noise = 0.3 * np.random.default_rng(seed).standard_normal(200)
        assert wnlib.recover(M, np.einsum("nij,ij->n", M, A) + noise).success


def test_a_matrix_of_full_rank_is_not_taken_for_noise():
    for seed in range(10):
        M, y, A = problem(10, 10, 0, seed, n=70, kappa=3.0)  # 55 degrees of freedom; rank 1 explains little of y
        result = wnlib.recover(M, y)
        assert result.success and error(result, A) < 1e-6


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_few_degrees_of_freedom_are_left_says_nothing_of_noise():
    for seed in range(12):
        M, y, _ = problem(8, 1, 0, seed, q=6, n=14)  # 13 degrees of freedom
        noisy = y + 0.1 * np.random.default_rng(seed).standard_normal(14)
        assert not wnlib.recover(M, noisy, noise_std=0.1, max_products=500).success


def test_a_rank_that_is_told_is_believed_in_noise():
    for seed in range(20):
        M, y, A = problem(12, 1, 2.2, seed, q=11)
        found = wnlib.recover(M, y + 0.1 * np.random.default_rng(seed).standard_normal(y.size), rank=1)
        assert found.success and error(found, A) < 0.2
