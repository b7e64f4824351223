import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from wnlib import fits


@settings(deadline=None)
@given(slope=st.floats(-5, 5), intercept=st.floats(-5, 5), T=st.integers(3, 40))
def test_a_line_without_noise_is_recovered(slope, intercept, T):
    x = np.linspace(-1, 2, T)
    line = fits.line(x, slope * x + intercept)
    np.testing.assert_allclose(line.slope, slope, atol=1e-10)
    assert line.span == (-1, 2)
    assert abs(slope) < 1e-6 or line.r_squared > 1 - 1e-10


def test_r_squared_is_the_share_of_variance_explained():
    rng, x = np.random.default_rng(1), np.arange(50.0)
    y = 0.1 * x + rng.standard_normal(50)
    line = fits.line(x, y)
    left = y - y.mean() - line.slope * (x - x.mean())
    np.testing.assert_allclose(line.r_squared, 1 - np.sum(left**2) / np.sum((y - y.mean()) ** 2))


def test_a_line_is_scipys():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 30))
    line, fit = fits.line(x, y), scipy.stats.linregress(x, y)
    np.testing.assert_allclose([line.slope, line.r_squared], [fit.slope, fit.rvalue**2])


def test_no_line_through_one_x_and_no_r_squared_of_one_y():
    assert np.isnan(fits.line([1, 1, 1], [1, 2, 3]).slope)
    level = fits.line([1, 2, 3], [4, 4, 4])
    assert level.slope == 0 and np.isnan(level.r_squared)


def test_a_line_needs_three_points_and_as_many_x_as_y():
    nothing = fits.line([1, 2], [3, 4])
    assert np.isnan([nothing.slope, nothing.r_squared, *nothing.span]).all()
    with pytest.raises(ValueError, match=r"^x has shape \(3,\) and y \(2,\): must be \(T,\) both$"):
        fits.line([1, 2, 3], [3, 4])


def test_what_is_fitted_to_a_diverged_trajectory_is_nan():
    error = np.array([1, 0.5, 0.25, np.nan, np.nan])
    assert np.isnan(fits.exponential(np.arange(5), error).slope)


def test_exponential_fits_between_its_levels_only():
    steps = np.arange(200)
    error = np.where(steps < 50, 1.0, np.maximum(np.exp(-0.3 * (steps - 50)), 1e-12))  # plateau, line, floor
    line = fits.exponential(steps, error, 0.5, 1e-10)
    np.testing.assert_allclose(line.slope, -0.3)
    assert line.r_squared > 1 - 1e-12
    assert line.span == (53, 126)


def test_power_law_fits_from_its_start_on():
    steps = np.arange(1001)
    error = np.where(steps < 10, 1.0, 5 / np.maximum(steps, 1.0))
    line = fits.power_law(steps, error, start=10)
    np.testing.assert_allclose(line.slope, -1)
    assert fits.power_law(steps, error).slope > -0.999  # from step 1 on, never from step 0


def test_zeros_where_a_logarithm_is_fitted_are_named():
    steps, error = np.arange(6), np.array([1, 1e-1, 1e-2, 1e-3, 0, 0])
    with pytest.raises(ValueError, match=r"^error reaches 0 where it is fitted: must be positive; raise `low`$"):
        fits.exponential(steps, error)
    np.testing.assert_allclose(fits.exponential(steps, error, low=1e-5).slope, -np.log(10))
    with pytest.raises(ValueError, match=r"^error reaches 0 where it is fitted"):
        fits.power_law(steps, error)


def test_between_starts_after_the_last_time_above_and_ends_before_the_first_below():
    error = np.array([9, 3, 9, 3, 2, 0.5, 2, 0.5])
    assert error[fits.between(error, 5, 1)].tolist() == [3, 2]
    assert error[fits.between(error, 99, 0)].tolist() == error.tolist()
    assert error[fits.between(error, 0.1, 0)].tolist() == []


@settings(deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.floats(0, 10), st.floats(0, 10))
def test_what_lies_between_is_within_the_levels_and_never_above_again(error, high, low):
    error = np.array(error)
    window = fits.between(error, high, low)
    assert np.all(error[window.start :] <= high)
    assert np.all(error[window] >= low)


def test_first_below_answers_for_every_member():
    error = np.array([[3.0, 3.0, 0.0, np.nan], [2.0, 3.0, 9.0, np.nan], [1.0, 3.0, 9.0, np.nan]])
    np.testing.assert_array_equal(fits.first_below([0, 10, 20], error, 2), [10, np.nan, 0, np.nan])
    assert fits.first_below([0, 10, 20], error[:, 0], 1) == 20


def test_band_is_the_quartiles_of_the_members_that_are_left():
    values = np.array([[0.0, 1, 2, 3, 4], [0, 2, 4, np.nan, np.nan], [np.nan] * 5])
    median, low, high = fits.band(values, axis=-1)
    np.testing.assert_array_equal([low, median, high], [[1, 1, np.nan], [2, 2, np.nan], [3, 3, np.nan]])
