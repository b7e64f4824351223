"""Whatever is passed, the answer is an acceptable value or one short line that names the parameter."""

import math
import numbers
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wnlib import linalg, validate
from wnlib.backend import to_numpy

HUGE = (10**400, -(10**400), Fraction(10**400), Fraction(1, 10**400), Decimal("1e999"))
ODD = (
    None,
    True,
    object(),
    np.random.default_rng(0),
    np.bool_(True),
    np.datetime64("2020-01-01"),
    1j,
    "a\nb",
    "é" * 999,
)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
ARRAYS = hnp.arrays(st.sampled_from(["f8", "f4", "f2", ">f8", "i4", "u1", "?", "c16", "U3", "O", "M8[s]"]), SHAPES)
SCALARS = st.one_of(
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(HUGE + ODD),
    hnp.from_dtype(np.dtype("f4")),
    hnp.from_dtype(np.dtype("i8")),
    ARRAYS,
)
BRIEF = settings(max_examples=60, deadline=None)
JUNK = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner))


def answer(check, *arguments, **options):
    """What check("thing", …) returns, or None where it refuses: only ever by TypeError or ValueError, in one line."""
    try:
        return check("thing", *arguments, **options)
    except (TypeError, ValueError) as error:
        line = str(error)
        assert line.startswith("thing ") and "must be" in line
        assert "\n" not in line and len(line) < 300
        return None


@BRIEF
@given(value=JUNK, low=st.integers(-3, 3), high=st.none() | st.integers(3, 9))
def test_integer(value, low, high):
    found = answer(validate.integer, value, low, high)
    integral = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    wanted = integral and value >= low and (high is None or value <= high)
    assert (found is not None) == wanted
    assert not wanted or (type(found) is int and found == value)


@BRIEF
@given(value=JUNK, low=st.sampled_from([-math.inf, 0, 1.5]), strict=st.booleans())
def test_real(value, low, strict):
    found = answer(validate.real, value, low, strict=strict)
    if found is not None:
        assert type(found) is float and math.isfinite(found)
        assert found > low or (not strict and found == low)
        assert not isinstance(value, bool | str | np.ndarray)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        assert not (-1e308 < value < 1e308) or value < low or (strict and value == low)


@pytest.mark.parametrize("value", [3, 3.0, np.float32(3), np.int8(3), Fraction(3)])
def test_numbers_of_every_kind_are_taken(value):
    assert validate.positive("eta", value) == 3


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, -math.inf, np.float64("nan")])
def test_positive_says_the_value_and_what_is_allowed(value):
    with pytest.raises(ValueError, match=rf"^eta = {value:g}: must be a finite number > 0$"):
        validate.positive("eta", value)


def test_a_number_too_long_to_print_is_refused_like_any_other():
    assert answer(validate.integer, 10**5000, 0, 9) is None
    assert answer(validate.real, 10**5000) is None
    assert answer(validate.choice, 10**5000, ("dense",)) is None
    assert answer(validate.generators, [10**5000]) is None


@BRIEF
@given(value=JUNK)
def test_choice(value):
    allowed = {"dense": 1, "triangular": 2}
    found = answer(validate.choice, value, allowed)
    assert found == (allowed[value] if isinstance(value, str) and value in allowed else None)


@pytest.mark.parametrize("typo", ["dence", "Dense", "densee", "DENSE"])
def test_choice_names_the_nearest(typo):
    with pytest.raises(
        ValueError, match=rf"^kind = '{typo}': must be one of 'dense', 'polar'; did you mean 'dense'\?$"
    ):
        validate.choice("kind", typo, ("dense", "polar"))
    with pytest.raises(ValueError, match=r"'polar'$"):
        validate.choice("kind", "something else", ("dense", "polar"))


@BRIEF
@given(value=JUNK, shape=st.tuples(st.none() | st.integers(0, 3), st.none() | st.integers(0, 3)))
def test_matrices(value, shape):
    found = answer(validate.matrices, value, shape)
    wanted = (
        isinstance(value, np.ndarray)
        and value.dtype in (np.float32, np.float64)
        and value.ndim >= 2
        and value.size > 0
        and all(s in (None, n) for s, n in zip(shape, value.shape[-2:], strict=True))
        and bool(np.isfinite(value).all())
    )
    assert (value is not None and found is value) == wanted


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_entry_in_a_stack_is_found(xp, bad):
    stack = np.ones((3, 2, 2))
    assert validate.matrices("data", xp.asarray(stack), (2, 2), symmetric=True) is not None
    stack[1, 0, 1] = bad
    with pytest.raises(ValueError, match=r"^data has entries that are NaN or infinite"):
        validate.matrices("data", xp.asarray(stack), (2, 2))


def test_symmetry_is_asked_for_to_the_last_bit(xp):
    S = np.random.default_rng(0).standard_normal((4, 3, 3))
    with pytest.raises(ValueError, match=r"^A is not symmetric: must equal its transpose; .* linalg.sym$"):
        validate.matrices("A", xp.asarray(S), (3, 3), symmetric=True)
    S = linalg.sym(xp.asarray(S))
    np.testing.assert_array_equal(to_numpy(validate.matrices("A", S, (3, 3), symmetric=True)), to_numpy(S))


@BRIEF
@given(value=JUNK)
def test_generators(value):
    found = answer(validate.generators, value)
    members = value if isinstance(value, list) and value else [value]
    assert (found is value) == all(isinstance(member, np.random.Generator) for member in members)


@BRIEF
@given(value=JUNK)
def test_what_a_message_shows_is_short_and_on_one_line(value):
    assert len(validate.shown(value)) <= 80 and "\n" not in validate.shown(value)
