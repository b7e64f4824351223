"""Rates, power laws and bands read off recorded traces (NumPy, one trajectory at a time).

A trajectory that has diverged is NaN from then on, and so is what is fitted to it.
"""

import warnings
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """A least-squares line: slope, R², and the range of x it spans."""

    slope: float
    r_squared: float
    span: tuple[float, float]


def line(x, y):
    """Return the Line fitted to y (T,) against x (T,); all NaN for fewer than three points: nothing can be said."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"x has shape {x.shape} and y {y.shape}: must be (T,) both")
    if x.size < 3:  # a phase that was not reached: the claim on it is not observed, and the notebook goes on
        return Line(np.nan, np.nan, (np.nan, np.nan))
    x_c, y_c = x - x.mean(), y - y.mean()
    with np.errstate(invalid="ignore"):  # all x the same, or all y: NaN
        slope = x_c @ y_c / (x_c @ x_c)
        left = y_c - slope * x_c
        r_squared = 1 - left @ left / (y_c @ y_c)
    return Line(slope, r_squared, (float(x.min()), float(x.max())))


def between(error, high, low):
    """Return the slice of `error` (T,) after it was last above `high` and before it is first below `low`."""
    error = np.asarray(error)
    above = np.flatnonzero(error > high)
    start = above[-1] + 1 if above.size else 0
    below = np.flatnonzero(error[start:] < low)
    return slice(start, start + below[0] if below.size else error.size)


def exponential(steps, error, high=np.inf, low=0.0):
    """Return the Line of ln(error) against steps between the levels `high` and `low`: error ∝ exp(slope · step)."""
    window = between(error, high, low)
    return line(np.asarray(steps)[window], _log("error", np.asarray(error)[window], "raise `low`"))


def power_law(steps, error, start=1.0):
    """Return the Line of ln(error) against ln(step) from step `start` on: error ∝ step^slope."""
    steps, error = np.asarray(steps), np.asarray(error)
    window = steps >= max(start, 1.0)
    return line(np.log(steps[window]), _log("error", error[window], "end earlier"))


def _log(name, values, way_out):
    if np.any(values <= 0):
        raise ValueError(f"{name} reaches {np.min(values):g} where it is fitted: must be positive; {way_out}")
    return np.log(values)


def first_below(steps, error, level):
    """Return the first recorded step with error (T, ...) ≤ level, for every member; NaN where there is none."""
    reached = np.asarray(error) <= level
    first = np.asarray(steps, dtype=float)[np.argmax(reached, axis=0)]
    return np.where(reached.any(axis=0), first, np.nan)


def band(values, axis):
    """Return (median, lower quartile, upper quartile) of values over `axis`, members that are NaN left out.

    Where every member is NaN, so are they.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        lower, median, upper = np.nanquantile(values, [0.25, 0.5, 0.75], axis=axis)
    return median, lower, upper
