"""Fixtures: the array backends. Whatever a notebook calls is tested on each of them."""

import sys

import array_api_compat
import hypothesis
import pytest

from wnlib import backend

# As in wnlib.collection.kernel: jsonschema would compile a grammar of addresses on import, longer than all the rest.
sys.modules |= dict.fromkeys(["rfc3987_syntax", "isoduration"])

# A busy machine must not fail a test for being slow, nor a lucky draw pass it.
hypothesis.settings.register_profile("wnlib", deadline=None, derandomize=True)
hypothesis.settings.load_profile("wnlib")


@pytest.hookimpl(tryfirst=True)  # before the markers are asked for
def pytest_collection_modifyitems(config, items):
    """Whatever opens a browser is slow. Where no device is, the tests that need one are deselected.

    The summary then speaks of what can run.
    """
    for item in items:
        if "browser" in item.fixturenames:
            item.add_marker("slow")
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


@pytest.fixture(params=["array_api_strict", pytest.param("cupy", marks=pytest.mark.gpu)])
def other(request):
    """The namespaces that are held against NumPy."""
    if request.param == "cupy":
        return request.getfixturevalue("cupy")
    strict = pytest.importorskip("array_api_strict")
    return array_api_compat.array_namespace(strict.zeros(1))
