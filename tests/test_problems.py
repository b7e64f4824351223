import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from textbook import orthonormality_error

from wnlib import problems
from wnlib.backend import to_numpy


def first_draws(streams):
    return {role: [g.standard_normal(3).tolist() for g in members] for role, members in streams._asdict().items()}


def test_a_trajectorys_streams_do_not_depend_on_how_many_run():
    few, many = first_draws(problems.streams(7, 2)), first_draws(problems.streams(7, 5))
    assert {role: draws[:2] for role, draws in many.items()} == few
    last = first_draws(problems.streams(7, 2, first=3))
    assert {role: draws[3:] for role, draws in many.items()} == last


def test_every_trajectory_and_role_has_its_own_stream():
    draws = [tuple(draw) for members in first_draws(problems.streams(7, 4)).values() for draw in members]
    assert len(set(draws)) == 16
    assert first_draws(problems.streams(7, 4)) == first_draws(problems.streams(7, 4))
    assert first_draws(problems.streams(7, 4)) != first_draws(problems.streams(8, 4))


def test_drawing_in_one_role_leaves_the_others_alone():
    used, fresh = problems.streams(7, 1), problems.streams(7, 1)
    used.operator[0].standard_normal(1000)
    for role in ("truth", "start", "noise"):
        assert getattr(used, role)[0].random() == getattr(fresh, role)[0].random()


@settings(max_examples=40, deadline=None)
@given(r_A=st.integers(2, 9), kappa=st.floats(1, 1e6), kind=st.sampled_from(list(problems.SPECTRA)))
def test_a_spectrum_falls_from_one_to_one_over_kappa(r_A, kappa, kind):
    sigma = problems.spectrum(r_A, kappa, kind)
    assert sigma.shape == (r_A,) and sigma[0] == 1
    np.testing.assert_allclose(sigma[-1], 1 / kappa, rtol=1e-12)
    steps = np.diff(sigma if kind == "linear" else np.log(sigma))
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6, atol=1e-12)
    assert problems.spectrum(1, 1, kind).tolist() == [1]


def test_the_truth_has_the_prescribed_eigenvalues_and_is_symmetric(xp):
    m, sigma = 7, np.array([[1.0, 0.5, 0.25], [1.0, 0.9, 0.01]])
    seeds = problems.streams(0, 4)
    truth = problems.truth(m, sigma, seeds.truth, xp)
    assert truth.U.shape == (4, 1, m, 3) and truth.sigma.shape == (2, 3) and truth.A.shape == (4, 2, m, m)
    assert np.max(orthonormality_error(to_numpy(truth.U))) < 1e-14
    A = to_numpy(truth.A)
    np.testing.assert_array_equal(A, np.swapaxes(A, -1, -2))
    eigenvalues = np.linalg.eigvalsh(A)[..., ::-1]
    np.testing.assert_allclose(eigenvalues[..., :3], np.broadcast_to(sigma, (4, 2, 3)), atol=1e-14)
    np.testing.assert_allclose(eigenvalues[..., 3:], 0, atol=1e-14)
    np.testing.assert_allclose(A[1] @ to_numpy(truth.U)[1], to_numpy(truth.U)[1] * sigma[:, None], atol=1e-14)


@pytest.mark.parametrize(
    "seeds, conditions, shape", [(None, None, ()), (3, None, (3,)), (None, 2, (2,)), (3, 2, (3, 2))]
)
def test_shapes_put_seeds_before_conditions(seeds, conditions, shape):
    sigma = problems.spectrum(2, 3.0)
    rng = problems.streams(0, seeds or 1).truth
    truth = problems.truth(5, np.tile(sigma, (conditions, 1)) if conditions else sigma, rng if seeds else rng[0])
    assert truth.A.shape == (*shape, 5, 5)


def test_the_conditions_of_a_seed_share_its_subspace_and_seeds_do_not():
    sigma = np.stack([problems.spectrum(2, kappa) for kappa in (2.0, 9.0)])
    A = problems.truth(5, sigma, problems.streams(0, 2).truth).A
    np.testing.assert_allclose(A[0, 0] @ A[0, 1], A[0, 1] @ A[0, 0], atol=1e-15)
    assert np.linalg.norm(A[0, 0] @ A[1, 0] - A[1, 0] @ A[0, 0]) > 1e-2


def test_the_subspace_is_uniformly_random():
    # The first coordinate of a uniform unit vector in R^m, squared, is Beta(1/2, (m−1)/2).
    m = 5
    A = problems.truth(m, [1.0], problems.streams(3, 400).truth).A
    for i in (0, m - 1):
        assert scipy.stats.kstest(A[:, i, i], scipy.stats.beta(0.5, (m - 1) / 2).cdf).pvalue > 0.01
