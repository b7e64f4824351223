"""Every notebook's code, run in this process on array-api-strict: what it calls stays inside the array API standard."""

import json
import pathlib
import re

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure

from wnlib import backend, figures
from wnlib.collection import jobs
from wnlib.maps import complexity

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
# array-api-strict is slow: few steps and draws, which is enough to run every line, and easier truths so that what is
# read off is reached; of two that match the later holds. And `quickened`.
CAPS = {
    "steps": 100,
    r"steps_\w+": 30,
    "steps_family": 150,
    "floor_at": 60,
    "products": 40,
    "products_slow": 60,
    "period": 9,
    r"seeds\w*|trials\w*|pairs|rip_starts": 2,
    r"kappas?": 3.0,
    "points": 3,
    "groups": 3,
    "problems_random|trajectories": 6,
    "seeds_many": 1,
}


def code_cells(path):
    """The notebook's code, the parameters' cell first."""
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    parameters = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())]
    assert len(parameters) == 1 and parameters[0] is cells[0]
    return ["".join(cell["source"]) for cell in cells]


def quickened(monkeypatch):
    """What array-api-strict looks up for every array is found at once; walking through tuples is half of its time."""
    inside = pytest.importorskip("array_api_strict")._array_object
    monkeypatch.setattr(inside, "DType", {dtype._np_dtype: dtype for dtype in inside._all_dtypes}.get)
    monkeypatch.setattr(inside, "SupportsIndex", int | np.integer | inside.Array)
    for name in [name for name in vars(inside) if name.endswith("_dtypes")]:
        monkeypatch.setattr(inside, name, frozenset(getattr(inside, name)))
    for name, dtypes in inside._dtype_categories.items():
        monkeypatch.setitem(inside._dtype_categories, name, frozenset(dtypes))
    monkeypatch.setattr(complexity, "POWER_STEPS", 6)  # fewer of the same


def capped(value, cap):
    return [min(member, cap) for member in value] if isinstance(value, list) else min(value, cap)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_a_notebook_runs_on_every_backend(path, other, tmp_path, monkeypatch):
    """On NumPy test_notebooks runs it, through the real runner."""
    xp = other
    quickened(monkeypatch)
    asked = []
    monkeypatch.setattr(backend, "namespace", lambda name="auto": asked.append(name) or xp)
    monkeypatch.setenv("WNLIB_FIGURES", str(tmp_path))
    monkeypatch.setenv("WNLIB_SWEEPS", str(tmp_path / "sweeps"))  # nothing is to be found there
    monkeypatch.setattr(figures, "picture", lambda figure: b"")  # test_notebooks draws it
    monkeypatch.setattr(figures, "show", lambda figure: None)
    monkeypatch.setattr(Figure, "savefig", lambda figure, file, **options: None)
    parameters, *cells = code_cells(path)
    scope = {"__name__": "__main__", "display": lambda *shown: None}
    exec(compile(parameters, f"{path.name}: parameters", "exec"), scope)
    if (FOLDER / "quick" / path.with_suffix(".yaml").name).exists():
        scope |= jobs.request(path.stem, "quick").overrides
    scope |= {n: capped(v, cap) for name, cap in CAPS.items() for n, v in scope.items() if re.fullmatch(name, n)}
    try:
        for number, cell in enumerate(cells, start=2):
            assert not re.match(r"\s*[%!]", cell), "a magic, which only IPython runs"
            exec(compile(cell, f"{path.name}: code cell {number}", "exec"), scope)
    finally:
        plt.close("all")
    assert asked
    record = json.loads((tmp_path / f"{path.stem}.json").read_text(encoding="utf-8"))
    assert record["environment"]["backend"] == backend.name(xp) and record["claims"]


def test_a_notebook_that_leaves_the_standard_would_be_found():
    xp = pytest.importorskip("array_api_strict")
    with pytest.raises((TypeError, AttributeError)):
        xp.ones(3) + np.ones(3)
    with pytest.raises(AttributeError):
        xp.einsum  # noqa: B018
