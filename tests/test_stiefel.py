import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from textbook import orthonormality_error

from wnlib import lockstep, methods, operators, problems, stiefel
from wnlib.backend import array_namespace, to_numpy
from wnlib.linalg import mT


def point_and_tangent(xp, m=7, r=3, size=1.0, stack=4, seed=0):
    rngs = [np.random.default_rng([seed, k]) for k in range(stack)]
    X = stiefel.random(m, r, rngs, xp)
    V = stiefel.project(X, xp.asarray(np.random.default_rng(seed).standard_normal((stack, m, r))))
    return X, size * V


def test_projection_is_the_papers_formula_idempotent_and_tangent(xp):
    X, V = point_and_tangent(xp)
    G = xp.asarray(np.random.default_rng(5).standard_normal((4, 7, 3)))
    x, g = to_numpy(X), to_numpy(G)
    papers = g - x @ (mT(x) @ g) + 0.5 * x @ (mT(x) @ g - mT(g) @ x)
    np.testing.assert_allclose(to_numpy(stiefel.project(X, G)), papers, atol=1e-14)
    np.testing.assert_allclose(to_numpy(stiefel.project(X, V)), to_numpy(V), atol=1e-14)
    skew = to_numpy(mT(X) @ V)
    np.testing.assert_allclose(skew, -mT(skew), atol=1e-14)


@pytest.mark.parametrize("name", stiefel.RETRACTIONS)
@pytest.mark.parametrize("size", [1e-9, 0.1, 1.0, 30.0])
def test_retractions_land_on_the_manifold(xp, name, size):
    X, V = point_and_tangent(xp, size=size)
    assert np.max(orthonormality_error(to_numpy(stiefel.RETRACTIONS[name](X, V)))) < 1e-13


@pytest.mark.parametrize("name", stiefel.RETRACTIONS)
def test_retractions_agree_with_the_straight_line_to_first_order(name):
    X, V = point_and_tangent(np, size=1.0)
    h = np.array([1e-2, 1e-3])
    gaps = [np.linalg.norm(stiefel.RETRACTIONS[name](X, t * V) - (X + t * V)) for t in h]
    assert np.log10(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.05)


def test_each_retraction_is_what_it_is_called():
    X, V = point_and_tangent(np, stack=1, size=0.7)
    x, v = X[0], V[0]
    np.testing.assert_allclose(stiefel.polar(x, v), scipy.linalg.polar(x + v)[0], atol=1e-13)
    Q, R = np.linalg.qr(x + v)
    np.testing.assert_allclose(stiefel.qr(x, v), Q * np.sign(np.diag(R)), atol=1e-13)
    P = np.eye(7) - 0.5 * x @ x.T
    W = P @ v @ x.T - x @ v.T @ P
    transform = np.linalg.solve(np.eye(7) - W / 2, (np.eye(7) + W / 2) @ x)
    np.testing.assert_allclose(stiefel.cayley(x, v), transform, atol=1e-13)


def test_polar_and_qr_span_the_same_subspace():
    X, V = point_and_tangent(np, size=0.5)
    a, b = stiefel.polar(X, V), stiefel.qr(X, V)
    np.testing.assert_allclose(a @ mT(a), b @ mT(b), atol=1e-13)


@pytest.mark.parametrize("name", stiefel.RETRACTIONS)
def test_rounding_never_adds_up(name):
    X, _ = point_and_tangent(np, m=4, r=2, stack=1)
    retract, rng = stiefel.RETRACTIONS[name], np.random.default_rng(1)
    kicks = rng.standard_normal((1000, *X.shape))
    for t in range(20_000):
        X = retract(X, stiefel.project(X, 0.1 * kicks[t % 1000]))
    assert np.max(orthonormality_error(X)) <= 2e-13


def test_orthonormalising_does_not_wait_for_a_broken_member():
    X, V = point_and_tangent(np, stack=2)
    V[1] = np.nan
    moved = stiefel.polar(X, V)
    assert orthonormality_error(moved[0]) < 1e-13
    assert np.isnan(moved[1]).all()


def test_random_points_are_uniform():
    # The squared first entry of a uniform frame of St(m, r) is Beta(1/2, (m−1)/2); reflecting changes nothing.
    rngs = [np.random.default_rng([3, k]) for k in range(2000)]
    X = stiefel.random(5, 2, rngs)
    for entry in (X[:, 0, 0], X[:, 4, 1]):
        assert scipy.stats.kstest(entry**2, scipy.stats.beta(0.5, 2).cdf).pvalue > 1e-3
        assert abs(np.mean(entry)) < 5 / np.sqrt(5 * 2000)


def test_a_members_draw_does_not_depend_on_its_neighbours():
    def rngs(n):
        return [np.random.default_rng([9, k]) for k in range(n)]

    np.testing.assert_array_equal(stiefel.random(6, 2, rngs(5))[:2], stiefel.random(6, 2, rngs(2)))


def test_single_precision_is_kept(xp):
    X = xp.astype(stiefel.random(6, 2, np.random.default_rng(0), xp), xp.float32)
    moved = stiefel.polar(X, 0.1 * X)
    assert moved.dtype == xp.float32
    assert orthonormality_error(to_numpy(moved)) < 1e-5


def test_on_a_device_polar_looks_at_no_number_and_agrees():
    """Far, near and broken members together: Newton–Schulz of a fixed length against the one that looks."""
    for size in (1e-9, 0.3, 3.0, 30.0):
        X, V = point_and_tangent(np, size=size)
        np.testing.assert_allclose(stiefel._orthonormalize_blindly(X + V), stiefel.polar(X, V), rtol=0, atol=1e-12)
    V[1] = np.nan
    moved = stiefel._orthonormalize_blindly(X + V)
    assert np.isnan(moved[1]).all() and np.isfinite(moved[[0, 2, 3]]).all()


def test_no_step_makes_the_host_wait_for_the_device(monkeypatch):
    """What reads a number of an array (float, bool, int, NumPy's view of it) is counted: none between two records."""
    strict = pytest.importorskip("array_api_strict")
    reads = []
    for reader in ("__bool__", "__float__", "__int__", "__index__", "__array__"):
        original = getattr(strict._array_object.Array, reader, None)
        if original:
            spy = lambda self, *a, _o=original, **k: reads.append(1) or _o(self, *a, **k)  # noqa: E731
            monkeypatch.setattr(strict._array_object.Array, reader, spy)
    counts = []
    for steps in (3, 9):
        seeds = problems.streams(0, 2)
        truth = problems.truth(5, [1.0, 0.5], seeds.truth, array_namespace(strict.ones(1)))
        xp = array_namespace(truth.U)
        M = operators.gaussian(5, 40, seeds.operator, xp)
        start = methods.start_directed(5, 3, seeds.start, xp)
        runs = {
            name: lockstep.Run(methods.weight_normalization(0.5, retraction=name), start, None, truth.A)
            for name in stiefel.RETRACTIONS
        }
        reads.clear()
        lockstep.run(M, runs, steps, record=[0, steps])
        counts.append(len(reads))
    assert counts[0] == counts[1] > 0


def test_polar_is_orthonormal_to_rounding_for_complex_matrices_too():
    rng = np.random.default_rng(11)
    X = np.linalg.qr(rng.standard_normal((8, 3)) + 1j * rng.standard_normal((8, 3)))[0]
    for size in np.geomspace(1e-3, 0.3, 12):
        V = size * stiefel.project(X, rng.standard_normal((8, 3)) + 1j * rng.standard_normal((8, 3)))
        assert orthonormality_error(stiefel.polar(X, V)) <= 1e-14
