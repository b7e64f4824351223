"""Fixtures: the array backends. Whatever a notebook calls is tested on each of them."""

import array_api_compat
import hypothesis
import pytest

from wnlib import backend

# A busy machine must not fail a test for being slow, nor a lucky draw pass it.
hypothesis.settings.register_profile("wnlib", deadline=None, derandomize=True)
hypothesis.settings.load_profile("wnlib")


def pytest_collection_modifyitems(config, items):
    """Where no device is, the tests that need one are deselected: the summary then speaks of what can run."""
    try:
        backend.namespace("cupy")
    except RuntimeError:
        left_out = [item for item in items if item.get_closest_marker("gpu")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture
def cupy():
    """CuPy's namespace; skips where CuPy is not installed, or is and finds no device."""
    try:
        return backend.namespace("cupy")
    except RuntimeError as reason:
        pytest.skip(str(reason))


@pytest.fixture(params=["numpy", "array_api_strict", pytest.param("cupy", marks=pytest.mark.gpu)])
def xp(request):
    """The array namespace: NumPy; array-api-strict, which refuses what the standard lacks; CuPy with a GPU."""
    if request.param == "array_api_strict":
        strict = pytest.importorskip("array_api_strict")
        return array_api_compat.array_namespace(strict.zeros(1))
    return request.getfixturevalue("cupy") if request.param == "cupy" else backend.namespace("numpy")
