"""Every notebook keeps the collection's form, and runs in the quick profile through the real runner."""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize

import pytest

from wnlib.collection import jobs, verify

NOTEBOOKS = sorted(jobs.NOTEBOOKS.glob("*.ipynb"))
VERDICTS = {"confirmed", "refined", "not observed"}
CLAIM = {"tier", "id", "statement", "source", "measured", "expected", "holds", "verdict"}
ABSOLUTE = re.compile(r"""["'(= ](/(home|root|Users|tmp|work|mnt|opt|usr|var)/|[A-Z]:\\|~/)""")


def form_problems(name, notebook):
    """Every way in which a notebook (a dict, of the file called ``name``) departs from the fixed form."""
    found = []

    def require(condition, problem):
        if not condition:
            found.append(problem)

    cells = notebook["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    code = [(cell, source) for cell, source in zip(cells, sources, strict=True) if cell["cell_type"] == "code"]
    require(re.fullmatch(r"\d\d_[a-z0-9]+(_[a-z0-9]+)*\.ipynb", name), "its name is not NN_slug.ipynb")
    require(notebook["nbformat"] == 4 and notebook["nbformat_minor"] >= 5, "it is not nbformat 4.5, with cell ids")
    titled = cells[0]["cell_type"] == "markdown" and sources[0].startswith(f"# {name[:2]} · ")
    require(titled, f"it does not start with its title, '# {name[:2]} · …'")
    require(cells[-1]["cell_type"] == "markdown", "it does not end with what this shows and what it does not")
    ids = [cell.get("id", "") for cell in cells]
    require(len(set(ids)) == len(ids), "two cells have the same id")
    for name in ids:
        random = re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", name)
        require(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) and not random, f"cell id {name!r} is not a slug")
    for source in sources:
        require(not ABSOLUTE.search(source), f"an absolute path: {ABSOLUTE.search(source)}")
    for cell, source in code:
        require(not cell["outputs"] and cell["execution_count"] is None, f"outputs in cell {cell.get('id')!r}")
        for node in ast.walk(ast.parse(re.sub(r"(?m)^[%!].*", "", source))):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 40:
                found.append(f"function {node.name} is longer than a screen (40 lines)")
    parameters = [source for cell, source in code if "parameters" in cell["metadata"].get("tags", [])]
    require(len(parameters) == 1, f"{len(parameters)} cells tagged 'parameters'")
    for source in parameters:
        commented = {
            token.start[0]
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        for node in ast.parse(source).body:
            lines = set(range(node.lineno, node.end_lineno + 1))
            require(lines & commented, f"no comment on the line of {ast.unparse(node)!r}")
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_form(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert form_problems(path.name, notebook) == []
    assert path.stem in jobs.stems()
    assert {"backend", "seed"} <= set(jobs.parameters_of(path.stem))
    jobs.request(path.stem, "quick")  # the quick file is there, its keys are known, its types right


def test_no_stray_quick_file():
    assert {path.stem for path in jobs.NOTEBOOKS.glob("quick/*")} <= set(jobs.stems())


def good():
    def cell(kind, name, source, **more):
        return {"cell_type": kind, "id": name, "metadata": {}, "source": source} | more

    empty = {"outputs": [], "execution_count": None}
    parameters = cell("code", "parameters", "n: int = 3  # size", **empty)
    parameters["metadata"]["tags"] = ["parameters"]
    cells = [cell("markdown", "title", "# 01 · Title"), parameters, cell("code", "compute", "n + 1", **empty)]
    return {"cells": [*cells, cell("markdown", "end", "So it is.")], "nbformat": 4, "nbformat_minor": 5}


SPOILERS = {
    "its name": lambda nb: None,
    "does not start": lambda nb: nb["cells"].pop(0),
    "its title, '# 01 · …'": lambda nb: nb["cells"][0].update(source="# 05 · Title"),
    "does not end": lambda nb: nb["cells"].pop(),
    "same id": lambda nb: nb["cells"][0].update(id="end"),
    "not a slug": lambda nb: nb["cells"][0].update(id="0a1b2c3d"),
    "nbformat": lambda nb: nb.update(nbformat_minor=4),
    "absolute path": lambda nb: nb["cells"][2].update(source="open('/home/me/data.csv')"),
    "outputs in": lambda nb: nb["cells"][2].update(execution_count=1),
    "longer than": lambda nb: nb["cells"][2].update(source="def f():\n" + "    pass\n" * 40),
    "0 cells tagged": lambda nb: nb["cells"][1].update(metadata={}),
    "no comment": lambda nb: nb["cells"][1].update(source="n: int = 3"),
}


def test_good_form_passes():
    assert form_problems("01_good.ipynb", good()) == []


@pytest.mark.parametrize("problem", SPOILERS)
def test_bad_form_is_found(problem):
    notebook = good()
    SPOILERS[problem](notebook)
    found = form_problems("01-bad.ipynb" if problem == "its name" else "01_bad.ipynb", notebook)
    assert len(found) == 1 and problem in found[0]


def test_a_claim_id_is_of_one_claim():
    """The README and the notebooks name claims by it."""
    where = {}
    for path in sorted((jobs.ROOT / "figures").glob("[0-9][0-9]_*.json")):
        for claim in json.loads(path.read_text(encoding="utf-8"))["claims"]:
            where.setdefault(claim["id"], []).append(path.stem)
    assert {name: stems for name, stems in where.items() if len(stems) > 1} == {}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_published_copy_is_of_this_notebook(path):
    def sources(file):
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        return {cell["id"]: "".join(cell["source"]) for cell in cells if cell["id"] != "figure-first"}

    published = jobs.ROOT / "figures" / "executed" / path.name
    assert sources(published) == sources(path), f"make figures/{path.stem}.pdf"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_quick_run(path, tmp_path):
    stem = path.stem
    command = [
        sys.executable,
        "-m",
        "wnlib.collection.run",
        stem,
        "--profile",
        "quick",
        "--output",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, cwd=jobs.ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    outputs = [tmp_path / "out" / name.format(stem) for name in jobs.OUTPUTS]
    assert sorted(outputs) == sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert [path.name for path in outputs if path.stat().st_size < 100] == []
    assert outputs[0].read_bytes().startswith(b"%PDF") and outputs[1].read_bytes().startswith(b"\x89PNG")

    record = json.loads(outputs[2].read_text(encoding="utf-8"))
    quick = jobs.request(stem, "quick").overrides
    assert {name: record["parameters"][name] for name in quick} == quick
    assert record["claims"]
    for claim in record["claims"]:
        assert set(claim) == CLAIM and claim["verdict"] in VERDICTS
    assert len({claim["id"] for claim in record["claims"]}) == len(record["claims"])

    text = outputs[4].read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    assert str(jobs.ROOT) not in text and str(tmp_path) not in text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    streams = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "stream"]
    assert [output["text"] for output in streams if output["name"] == "stderr"] == []

    if (verify.REFERENCE / "quick" / f"{stem}.json").is_file():  # a new notebook's comes with `make references`
        rows, _ = verify.verify([stem], "quick", tmp_path / "out")
        off = [row for row in rows if row[-1] == "NO"]
        renew = (
            f"make figures/{stem}.pdf PROFILE=quick; python -m wnlib.collection.verify {stem} --profile quick --update"
        )
        assert off == [], f"where this is meant: {renew}"
