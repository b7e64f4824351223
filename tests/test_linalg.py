import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wnlib import linalg
from wnlib.backend import to_numpy


def symmetric(m, seed, *stack):
    Z = np.random.default_rng(seed).standard_normal((*stack, m, m))
    return Z + np.swapaxes(Z, -1, -2)


@given(m=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_svec_is_an_isometry_and_smat_its_inverse(m, seed):
    S, T = symmetric(m, seed, 2)
    s, t = linalg.svec(S), linalg.svec(T)
    assert s.shape == (linalg.dim_sym(m),)
    assert np.isclose(s @ t, np.sum(S * T), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(linalg.smat(s), S, rtol=1e-15)


def test_stacks_are_treated_member_by_member(xp):
    S = xp.asarray(symmetric(4, 0, 2, 3))
    assert linalg.svec(S).shape == (2, 3, 10)
    np.testing.assert_allclose(to_numpy(linalg.smat(linalg.svec(S))), to_numpy(S), rtol=1e-15)
    np.testing.assert_allclose(to_numpy(linalg.trace(S)), np.trace(to_numpy(S), axis1=-2, axis2=-1))
    np.testing.assert_allclose(to_numpy(linalg.mT(S)), np.swapaxes(to_numpy(S), -1, -2))


def test_a_quotient_is_taken_where_the_divisor_is_positive(xp):
    S = xp.asarray(np.stack([np.eye(2), np.zeros((2, 2)), np.full((2, 2), np.nan)]))
    q = linalg.quotient(3 * linalg.inner(S, S), linalg.inner(S, S), 7.0)
    assert to_numpy(q).tolist() == [[[3.0]], [[7.0]], [[7.0]]]


def test_inverse_sqrt(xp):
    root = symmetric(5, 1, 3)
    S = xp.asarray(root @ root + np.eye(5))
    R = linalg.inverse_sqrt(S)
    np.testing.assert_allclose(to_numpy(R @ S @ R), np.broadcast_to(np.eye(5), (3, 5, 5)), atol=1e-12)


def test_inverse_sqrt_confines_what_is_not_finite():
    S = np.stack([4 * np.eye(3), np.full((3, 3), np.nan)])
    R = linalg.inverse_sqrt(S)
    np.testing.assert_allclose(R[0], 0.5 * np.eye(3))
    assert np.isnan(R[1]).all()


def test_smat_refuses_a_length_that_is_no_triangle():
    with pytest.raises(ValueError, match="s has 5 coordinates"):
        linalg.smat(np.zeros(5))


def test_complex_matrices_have_adjoints_hermitian_parts_and_real_products(xp):
    rng = np.random.default_rng(3)
    S, T = (rng.standard_normal((2, 3, 3)) + 1j * rng.standard_normal((2, 3, 3)) for _ in range(2))
    there = {name: xp.asarray(x) for name, x in {"S": S, "T": T}.items()}
    assert np.array_equal(to_numpy(linalg.mH(there["S"])), np.conj(np.swapaxes(S, -1, -2)))
    assert np.allclose(to_numpy(linalg.inner(there["S"], there["T"]))[:, 0, 0], np.sum(S.conj() * T, axis=(1, 2)).real)
    mixed = linalg.inner(xp.real(there["S"]), there["T"])
    assert np.allclose(to_numpy(mixed)[:, 0, 0], np.sum(S.real * T, axis=(1, 2)).real)
    assert np.allclose(to_numpy(linalg.squared_norm(there["S"])), np.sum(np.abs(S) ** 2, axis=(1, 2)))
    H = linalg.sym(there["S"]) @ linalg.sym(there["S"])
    root = linalg.inverse_sqrt(H)
    assert np.allclose(to_numpy(root @ H @ root), np.eye(3), atol=1e-6)
