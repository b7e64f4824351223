import json
import re
import sys
import types

import array_api_compat.numpy
import numpy as np
import pytest

from wnlib import backend, operators
from wnlib.collection import gpu, jobs


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
def test_cupy_is_found_on_a_machine_with_a_device(cupy):
    assert backend.namespace("auto") is cupy
    assert backend.name(cupy) == backend.name(cupy.zeros(1)) == "cupy"
    assert isinstance(backend.to_numpy(cupy.ones(2)), np.ndarray)
    assert 0 < backend.available_memory(cupy) < 2**50


def test_an_array_names_its_namespace(xp):
    x = xp.ones((2, 2))
    assert backend.name(x) == backend.name(xp)
    assert backend.array_namespace(x).matrix_transpose(x).shape == (2, 2)
    found = backend.to_numpy(x)
    assert type(found) is np.ndarray and found.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize(
    "own, groups, free",
    [
        ("0::/", {"": ("max", "5")}, 1000),
        ("0::/", {"": ("900", "100")}, 800),
        ("0::/", {"": ("9000", "100")}, 1000),
        ("0::/", {"": ("900", "950")}, 0),
        ("0::/a/b", {"a/b": ("max", "5"), "a": ("600", "100")}, 500),  # nested: the outer one binds
        ("0::/a/b", {"a/b": ("300", "100"), "a": ("600", "100")}, 200),
        ("0::/elsewhere", {"": ("700", "100")}, 600),  # a container's own view of its group
        ("7:cpu,memory:/a\n0::/a", {"memory/a": ("400", "100")}, 300),  # version 1
        ("7:memory:/a", {"memory/a": ("9223372036854771712", "100"), "memory": ("500", "100")}, 400),
        ("nonsense", {}, 1000),
    ],
)
def test_the_memory_limits_of_all_control_groups_count(tmp_path, monkeypatch, own, groups, free):
    names = {True: ("memory.limit_in_bytes", "memory.usage_in_bytes"), False: ("memory.max", "memory.current")}
    for folder, numbers in groups.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for name, number in zip(names[folder.startswith("memory")], numbers, strict=True):
            (tmp_path / folder / name).write_text(number + "\n")
    (tmp_path / "own").write_text(own + "\n")
    found = list(backend._memory_groups(tmp_path, tmp_path / "own"))
    monkeypatch.setattr(backend, "_memory_groups", lambda: found)
    monkeypatch.setattr(backend.psutil, "virtual_memory", lambda: types.SimpleNamespace(available=1000))
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


def test_arrays_of_two_backends_are_refused_in_one_line():
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(TypeError, match=r"^A is an array of numpy and B of array_api_strict: must be of one backend; "):
        backend.common_namespace({"A": np.ones(1), "B": strict.ones(1)})
    assert backend.common_namespace({"A": np.ones(1), "B": np.ones(2)}) is array_api_compat.numpy


def device(free):
    """A stand-in for CuPy's namespace on a device with that many bytes free."""
    working = types.ModuleType("array_api_compat.cupy")
    working.zeros = np.zeros
    working.cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(memGetInfo=lambda: (free, 2**37)))
    return working


def test_a_devices_memory_is_asked_for_and_what_would_fit_is_named():
    xp, rng = device(2**30), np.random.default_rng(0)
    assert backend.available_memory(xp) == 2**30
    with pytest.raises(MemoryError) as refusal:
        operators.operator("triangular", 300, 50_000, rng, xp)
    assert re.fullmatch(
        r"operator 'triangular' with m = 300, n = 50000 needs 15\.2 GiB and 1 GiB are free: m = \d+ would fit",
        str(refusal.value),
    )
    with pytest.raises(MemoryError, match=r"operator = 'lazy' has the same law"):
        operators.operator("dense", 100, 50_000, rng, device(2**30))


def test_gpu_check_refuses_in_one_line_where_there_is_no_device(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", None)
    monkeypatch.setattr(gpu, "RECORD", tmp_path / "gpu.json")
    assert gpu.main() == 2 and not gpu.RECORD.exists()
    error = capsys.readouterr().err
    assert error.startswith("backend = 'cupy': CuPy cannot compute here (") and error.count("\n") == 1


def test_gpu_check_fails_without_a_record_where_a_result_is_not_reproduced(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu, "RECORD", tmp_path / "gpu.json")
    monkeypatch.setattr(gpu.backend, "namespace", lambda name: None)
    monkeypatch.setattr(gpu, "machine", lambda xp: {})
    monkeypatch.setattr(gpu, "parity", lambda: {"passed": 1})
    monkeypatch.setattr(gpu, "notebook", lambda *request: None)
    rows = [["01", "one", "yes"], ["02", "two", "NO"]]
    monkeypatch.setattr(gpu.verify, "verify", lambda *request: (rows, False))
    assert gpu.main() == 1 and not gpu.RECORD.exists()
    assert capsys.readouterr().err == "reproduction: 1 of 2 rows are not: 02 two\n"


def test_the_gpu_record_is_replaced_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "RECORD", tmp_path / "gpu.json")
    monkeypatch.setattr(gpu.backend, "namespace", lambda name: None)
    monkeypatch.setattr(gpu, "record", lambda xp: {"device": "old"})
    assert gpu.main() == 0
    monkeypatch.setattr(gpu, "record", lambda xp: {"rate": float("nan")})
    with pytest.raises(ValueError):
        gpu.main()
    assert json.loads(gpu.RECORD.read_text()) == {"device": "old"}
    assert [path.name for path in tmp_path.iterdir()] == ["gpu.json"]


def test_parity_that_was_skipped_is_no_parity(monkeypatch):
    ended = types.SimpleNamespace(returncode=0, stdout="s\n144 skipped, 900 deselected in 3.2s\n")
    monkeypatch.setattr(gpu.subprocess, "run", lambda *command, **options: ended)
    with pytest.raises(jobs.Problem, match="144 skipped"):
        gpu.parity()
    ended.stdout = "144 passed, 900 deselected in 3.2s\n"
    assert gpu.parity() == {"passed": 144}
