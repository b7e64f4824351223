import hashlib
import json
import subprocess
import sys
import warnings

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest

from wnlib import claims, figures
from wnlib.backend import to_numpy

CLAIMS = [claims.check("paper", "κ-linear", "it is", "law 3", 1.0, "= 1 ± 0.1")]
KINDS = ("json", "npz", "pdf", "png")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("WNLIB_FIGURES", str(tmp_path / "made" / "here"))
    yield tmp_path / "made" / "here"
    plt.close("all")


def draw():
    t = np.arange(1, 50)
    error = np.exp(-np.outer(t, [0.1, 0.2, 0.3]))
    with plt.rc_context(figures.style()):
        figure, axes = plt.subplots(figsize=(figures.COLUMN, 2))
        figures.band(axes, t, error, figures.WN, label="WN")
        figures.law(axes, t, np.exp(-0.2 * t), label=r"law: $e^{-2x}$, κ")
        axes.set(yscale="log", xlabel="iteration t", ylabel=r"$\|Z-A\|_F^2$")
        axes.legend()
    return figure, {"steps": t, "error": error, "labels": ["a", "b"], "kappas": [1, 2.5]}


def save(xp=np, **changes):
    figure, data = draw()
    figures.save("09_test", **({"figure": figure, "data": data, "claims": CLAIMS, "xp": xp} | changes))


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_save_writes_the_figure_the_numbers_and_the_record(folder, xp):
    figure, data = draw()
    figures.save("09_test", figure, data | {"device": xp.asarray([1.0, 2.0])}, CLAIMS, xp)
    assert sorted(path.name for path in folder.iterdir()) == [f"09_test.{kind}" for kind in KINDS]
    pdf = (folder / "09_test.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/FontFile2" in pdf  # TrueType, as journals ask
    assert plt.imread(folder / "09_test.png").shape[1] == round(figures.COLUMN * 200)
    with np.load(folder / "09_test.npz") as saved:
        for name, value in data.items():
            np.testing.assert_array_equal(saved[name], value)
        assert saved["device"].tolist() == [1, 2]
    record = json.loads((folder / "09_test.json").read_text(encoding="utf-8"))
    assert record["claims"] == CLAIMS
    assert {"python", "numpy", "backend", "device"} <= set(record["environment"])


def test_the_same_numbers_give_the_same_bytes(folder):
    save()
    first = digests(folder)
    save()
    assert digests(folder) == first
    code = "import sys; sys.path.insert(0, 'tests'); import test_figures; test_figures.save()"
    for path in folder.iterdir():
        path.unlink()
    # Another process, which hashes differently, an hour of another day.
    subprocess.run([sys.executable, "-c", code], check=True, env=figures.os.environ | {"PYTHONHASHSEED": "7"})
    assert digests(folder) == first


def test_other_numbers_give_other_bytes(folder):
    save()
    first = digests(folder)
    figure, data = draw()
    figure.axes[0].set_title("other")
    save(figure=figure, data=data | {"steps": data["steps"] + 1}, claims=[CLAIMS[0] | {"id": "other"}])
    assert not set(digests(folder).values()) & set(first.values())


@pytest.mark.parametrize(
    "changes, line",
    [
        ({"claims": []}, r"claims = \[\] of '09_test': must hold at least one; see wnlib.claims.check"),
        ({"data": {"bad": [None]}}, r"data\['bad'\] has dtype object: must be numbers or text"),
        ({"data": {"bad": [[1], [2, 3]]}}, r"data\['bad'\] has dtype object: must be numbers or text"),
        ({"data": {"bad": np.array(1j)}}, r"data\['bad'\] has dtype complex128: must be"),
        ({"data": {"bad": {"a": 1}}}, r"data\['bad'\] has dtype object: must be"),
        ({"claims": [CLAIMS[0] | {"expected": float("nan")}]}, "Out of range float values are not JSON compliant"),
    ],
)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(folder, changes, line):
    with pytest.raises(ValueError, match=line):
        save(**changes)
    assert not folder.exists()


def test_a_figure_that_cannot_be_drawn_leaves_the_last_good_one(folder):
    save()
    good = digests(folder)
    figure, _ = draw()
    figure.axes[0].set_title(r"$\nonsense$")
    with pytest.raises(ValueError, match="nonsense"):
        save(figure=figure)
    assert digests(folder) == good


def test_without_a_runner_nothing_published_is_touched(tmp_path, monkeypatch):
    monkeypatch.delenv("WNLIB_FIGURES", raising=False)
    monkeypatch.setattr(figures, "__file__", str(tmp_path / "wnlib" / "figures.py"))
    save()
    assert len(list((tmp_path / "build" / "interactive").iterdir())) == 4
    assert not (tmp_path / "figures").exists()
    plt.close("all")


def test_the_style_changes_nothing_outside_its_context():
    before = dict(matplotlib.rcParams)
    with plt.rc_context(figures.style()):
        assert matplotlib.rcParams["legend.frameon"] is False
        assert matplotlib.rcParams["axes.prop_cycle"].by_key()["color"][0] == figures.WN
    assert dict(matplotlib.rcParams) == before


def test_a_band_shows_median_and_quartiles_over_seeds_and_laws_are_black_dashes():
    figure, axes = plt.subplots()
    values = np.array([[1.0, 2, 3, 4, 5], [2, 4, 6, np.nan, np.nan], [np.nan] * 5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        line = figures.band(axes, [0, 1, 2], values, figures.GD, label="GD")
    np.testing.assert_array_equal(line.get_ydata(), [3, 4, np.nan])
    edges = axes.collections[0].get_paths()[0].vertices
    assert {2.0, 4.0} <= set(edges[edges[:, 0] == 0, 1]) and {3.0, 5.0} <= set(edges[edges[:, 0] == 1, 1])
    law = figures.law(axes, [0, 1], [1, 2], linewidth=3)
    assert law.get_color() == "black" and law.is_dashed() and law.get_linewidth() == 3
    assert law.get_zorder() > line.get_zorder()
    plt.close(figure)


def test_the_environment_names_the_backend(xp):
    record = figures.environment(xp)
    assert record["backend"] in ("numpy", "array_api_strict", "cupy")
    assert record[record["backend"]][0].isdigit()  # the version of what computed
    assert to_numpy(xp.zeros(1)).shape == (1,) and record["device"]


def test_what_is_shown_is_what_is_saved(folder, monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    figure, data = draw()
    figures.show(figure)
    figures.save("09_test", figure, data, CLAIMS, np)
    assert shown[0].data == (folder / "09_test.png").read_bytes()
    assert not plt.fignum_exists(figure.number)
    figure.axes[0].set_facecolor("red")  # changed since
    figures.save("09_test", figure, data, CLAIMS, np)
    assert shown[0].data != (folder / "09_test.png").read_bytes()
