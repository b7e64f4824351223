import builtins
import io
import sys
import types

import array_api_compat.numpy
import numpy as np
import pytest

from wnlib import backend


def test_numpy_is_chosen_by_name_and_where_no_device_is(monkeypatch):
    assert backend.namespace("numpy") is array_api_compat.numpy
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", None)
    assert backend.namespace("auto") is backend.namespace() is array_api_compat.numpy


def test_asking_for_cupy_where_it_cannot_compute_says_why_and_what_to_do(monkeypatch):
    def zeros(_):
        raise RuntimeError("cudaErrorNoDevice: no device\nand a long story")

    broken = types.ModuleType("array_api_compat.cupy")
    broken.zeros = zeros
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", broken)
    with pytest.raises(RuntimeError) as refusal:
        backend.namespace("cupy")
    line = str(refusal.value)
    assert line.startswith("backend = 'cupy': CuPy cannot compute here (cudaErrorNoDevice: no device);")
    assert line.endswith("or use backend = 'numpy'") and "\n" not in line
    assert backend.namespace("auto") is array_api_compat.numpy


def test_cupy_is_chosen_where_it_computes(monkeypatch):
    working = types.ModuleType("array_api_compat.cupy")
    working.zeros = np.zeros
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", working)
    assert backend.namespace("auto") is backend.namespace("cupy") is working
    assert backend.name(working) == "cupy"


@pytest.mark.gpu
def test_cupy_is_found_on_a_machine_with_a_device():
    pytest.importorskip("cupy")
    xp = backend.namespace("auto")
    assert backend.name(xp) == backend.name(xp.zeros(1)) == "cupy"
    assert isinstance(backend.to_numpy(xp.ones(2)), np.ndarray)
    assert 0 < backend.available_memory(xp) < 2**50


def test_an_array_names_its_namespace(xp):
    x = xp.ones((2, 2))
    assert backend.name(x) == backend.name(xp)
    assert backend.array_namespace(x).matrix_transpose(x).shape == (2, 2)
    found = backend.to_numpy(x)
    assert type(found) is np.ndarray and found.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    "limit, used, free", [("max", "5", 1000), ("900", "100", 800), ("9000", "100", 1000), ("900", "950", 0)]
)
def test_a_containers_memory_limit_counts(monkeypatch, limit, used, free):
    files = {"/sys/fs/cgroup/memory.max": limit + "\n", "/sys/fs/cgroup/memory.current": used + "\n"}
    real_open, real_exists = builtins.open, backend.os.path.exists
    monkeypatch.setattr(backend.psutil, "virtual_memory", lambda: types.SimpleNamespace(available=1000))
    monkeypatch.setattr(backend.os.path, "exists", lambda path: path in files or real_exists(path))
    monkeypatch.setattr(
        builtins, "open", lambda path, *a, **k: io.StringIO(files[path]) if path in files else real_open(path, *a, **k)
    )
    assert backend.available_memory(np) == free


def test_memory_is_asked_for_in_one_line(monkeypatch):
    monkeypatch.setattr(backend, "available_memory", lambda xp: 2**31)
    backend.require_memory(2**31, "a thing", str, np)
    with pytest.raises(MemoryError, match=r"^a thing needs 3 GiB and 2 GiB are free: 2147483648 would fit$"):
        backend.require_memory(3 * 2**30, "a thing", lambda free: f"{free} would fit", np)
    with pytest.raises(MemoryError, match=r"^it needs over 2\*\*70 GiB"):
        backend.require_memory(10**400, "it", str, np)


def test_the_processor_has_a_name(xp):
    assert backend.device(xp).strip()
