"""What makes a figure stale: in a small package, and in this one."""

import json
import sys

import pytest

from wnlib.collection import depends, jobs

MODULES = {
    "__init__": 'MODULES = {"solver": ["solve"]}\n',
    "base": '"""Base."""\n\n\ndef f():\n    """Return 1."""\n    return 1  # one\n',
    "methods": "from demo import base\n",
    "rivals": "from demo.methods import base\nX = 1\n",
    "solver": "from demo.rivals import X\n",
    "tools/__init__": "from demo.tools.saw import cut\n",
    "tools/saw": "cut = 1\n",
}


@pytest.fixture
def demo(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        path = tmp_path / "demo" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    depends._lazy.cache_clear()
    yield tmp_path / "demo"
    sys.modules.pop("demo", None)
    depends._lazy.cache_clear()


def of(*names):
    return depends.modules(*names, package="demo")


def test_a_module_depends_on_what_it_imports_and_they_import(demo):
    assert set(of("demo.methods")) == {"demo", "demo.methods", "demo.base"}
    assert set(of("demo.rivals")) == {"demo", "demo.rivals", "demo.methods", "demo.base"}
    assert set(of("demo.tools")) == {"demo", "demo.tools", "demo.tools.saw"}


def test_docstrings_comments_and_layout_do_not_count_and_code_does(demo):
    before = of("demo.rivals")
    (demo / "base.py").write_text('"""Another."""\ndef f():\n    """Return one, says the doc."""\n\n    return (1)\n')
    assert of("demo.rivals") == before
    (demo / "base.py").write_text("def f():\n    return 2\n")
    after = of("demo.rivals")
    assert {name for name in after if after[name] != before[name]} == {"demo.base"}


def test_a_line_in_the_rivals_module_concerns_only_those_that_import_it(demo):
    methods, rivals = of("demo.methods"), of("demo.rivals")
    (demo / "rivals.py").write_text("from demo.methods import base\nX = 2\n")
    assert of("demo.methods") == methods and of("demo.rivals") != rivals


def test_names_that_the_package_offers_lead_to_their_modules(demo):
    for code in ("from demo import solve", "import demo\ndemo.solve()"):
        found = depends._imports(depends.ast.parse(code), "demo")
        assert {"demo.solver", "demo.rivals", "demo.base"} <= set(of(*found))


def used(slug):
    (path,) = jobs.NOTEBOOKS.glob(f"[0-9][0-9]_{slug}.ipynb")
    return {name.removeprefix("wnlib.") for name in depends.notebook(path)}


def test_here_only_what_races_the_peers_depends_on_them_and_nothing_on_the_machinery():
    assert "peers" in used("peers") and "peers" not in used("condition_number") and "peers" not in used("two_phases")
    for stem in jobs.stems():
        names = depends.notebook(jobs.NOTEBOOKS / f"{stem}.ipynb")
        assert "wnlib.claims" in names and not [n for n in names if n.startswith(depends.MACHINERY)]
    assert "maps" in used("sample_complexity") and "operators.lazy" in used("overparameterization")


@pytest.fixture
def stamped(tmp_path, monkeypatch):
    """The stem of a notebook with a stamp and outputs, in a project of its own; and its root."""
    monkeypatch.setattr(jobs, "ROOT", tmp_path)
    monkeypatch.setattr(jobs, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(jobs, "BUILD", tmp_path / "build")
    monkeypatch.setattr(jobs, "PROFILES", {"quick": (tmp_path / "out", tmp_path / "notebooks" / "quick")})
    stem = "01_demo"
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None}
    texts = {
        f"notebooks/{stem}.ipynb": json.dumps({"cells": [cell | {"source": "from wnlib import fits"}]}),
        f"notebooks/quick/{stem}.yaml": "n: 1\n",
        "requirements.lock": "numpy==2\n",
        **{f"out/{name.format(stem)}": "made" for name in jobs.OUTPUTS},
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    stamp = jobs.stamp_of(stem, "quick")
    stamp.parent.mkdir(parents=True)
    stamp.write_text(json.dumps(jobs.inputs_of(stem, "quick", None) | jobs.outputs_of(stem, "quick")))
    return stem, tmp_path


def test_an_untouched_figure_is_up_to_date(stamped):
    assert jobs.why(stamped[0], "quick") == []


@pytest.mark.parametrize(
    "name, text, reason",
    [
        ("requirements.lock", "numpy==3\n", "requirements.lock changed"),
        ("notebooks/quick/01_demo.yaml", "n: 2\n", "notebooks/quick/01_demo.yaml changed"),
        ("notebooks/quick/01_demo.yaml", None, "notebooks/quick/01_demo.yaml is gone"),
        ("out/01_demo.pdf", "edited", "out/01_demo.pdf changed"),
        ("out/executed/01_demo.ipynb", None, "out/executed/01_demo.ipynb is gone"),
        ("build/stamps/quick/01_demo.json", "{", "was not made here"),
        ("build/stamps/quick/01_demo.json", "[]", "was not made here"),
    ],
)
def test_a_stale_figure_says_which_input_made_it_so(stamped, name, text, reason):
    stem, root = stamped
    (root / name).unlink() if text is None else (root / name).write_text(text)
    assert jobs.why(stem, "quick") == [reason]


def test_a_module_that_changed_is_named(stamped, monkeypatch):
    code = depends.notebook
    monkeypatch.setattr(depends, "notebook", lambda path: code(path) | {"wnlib.fits": "another", "wnlib.new": "x"})
    assert jobs.why(stamped[0], "quick") == ["wnlib.fits changed", "wnlib.new is new"]
