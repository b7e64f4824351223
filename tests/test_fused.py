import numpy as np
import pytest
import scipy.stats

from wnlib import backend, fused


def packed(d, rng, dtype=np.float64):
    full = np.triu(rng.standard_normal((d, d))).astype(dtype)
    return full, full[np.triu_indices(d)]


# 1, 3 and 6 columns are compiled here once and found again later; 2, 4 and 5 differ only in the written-out text.
@pytest.mark.parametrize("d", [1, 5, 8, 67])
@pytest.mark.parametrize("columns", [1, 3, 6, 7])
def test_the_fused_triangle_is_the_textbooks_product(d, columns):
    rng = np.random.default_rng(d)
    full, R = packed(d, rng)
    X = rng.standard_normal((columns, d))
    np.testing.assert_allclose(fused.normal_product(R, X, triangle=True), X @ full.T @ full, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n", [1, 7, 50])
def test_the_fused_rows_are_the_textbooks_product(n):
    rng = np.random.default_rng(n)
    matrix, X = rng.standard_normal((n, 31)), rng.standard_normal((3, 31))
    product = fused.normal_product(matrix.reshape(-1), X, triangle=False)
    np.testing.assert_allclose(product, X @ matrix.T @ matrix, rtol=1e-11, atol=1e-11)


def test_measure_and_adjoint_are_each_others():
    rng = np.random.default_rng(0)
    full, R = packed(23, rng)
    x, w = rng.standard_normal((2, 23)), rng.standard_normal((2, 23))
    np.testing.assert_allclose(fused.measure(R, x), x @ full.T, atol=1e-12)
    np.testing.assert_allclose(fused.adjoint(R, w), w @ full, atol=1e-12)


def test_single_precision_loses_no_more_than_its_own_rounding():
    rng = np.random.default_rng(1)
    full, R = packed(300, rng, np.float32)
    X = rng.standard_normal((3, 300))
    exact = X @ full.T.astype(float) @ full.astype(float)
    error = fused.normal_product(R, X, triangle=True) - exact
    assert np.max(np.abs(error)) <= 2e-6 * np.max(np.abs(exact))


def test_neither_draws_nor_sums_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(fused, "CHUNK", 1000)
    results = []
    for count in (1, 2, 5):
        monkeypatch.setattr(backend, "processors", lambda count=count: count)
        fused._pool.cache_clear()
        R = fused.draw_normals(fused.triangle_size(100), np.random.default_rng(7))
        results.append((R, fused.normal_product(R, np.eye(3, 100), triangle=True)))
    fused._pool.cache_clear()
    for R, product in results[1:]:
        np.testing.assert_array_equal(R, results[0][0])
        np.testing.assert_array_equal(product, results[0][1])


def test_draws_are_independent_standard_normals(monkeypatch):
    monkeypatch.setattr(fused, "CHUNK", 512)
    counted = []
    x = fused.draw_normals(40_000, np.random.default_rng(3), np.float64, counted.append)
    assert sum(counted) == x.size
    assert scipy.stats.kstest(x, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(x[:-512], x[512:])[0, 1]) < 0.025  # from one stream to the next


def test_what_was_compiled_is_found_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = "def kernel(x):\n    return x + 1\n"
    first = fused._module("plain", source)
    assert first.kernel(1) == 2
    assert fused._module("plain", source).__file__ == first.__file__
    assert fused._module("plain", source.replace("1", "2")).__file__ != first.__file__
    assert sorted(path.suffix for path in (tmp_path / "wnlib").iterdir() if path.is_file()) == [".py", ".py"]
