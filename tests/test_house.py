"""The two households: what the library's rooms may know of one another, and what importing it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import wnlib

ROOT = Path(wnlib.__file__).parent
MATHEMATICS = [p for p in sorted(ROOT.rglob("*.py")) if p.relative_to(ROOT).parts[0] not in ("collection", "sweep")]


@pytest.mark.parametrize("path", MATHEMATICS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_mathematics_imports_no_machinery(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        assert not [name for name in names if name.startswith(("wnlib.collection", "wnlib.sweep"))]


def test_the_house_stays_small():
    rooms = {p.stem if p.suffix == ".py" else p.name for p in ROOT.iterdir() if p.suffix == ".py" or p.is_dir()}
    assert len(rooms - {"__init__", "__pycache__", "collection", "sweep", "site"}) <= 17
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in ROOT.rglob("*.py")}
    # 690 of them are recover and its input, 330 the competitors, 410 the maps, 170 Pauli strings.
    longest = max(lines, key=lines.get)
    assert lines[longest] <= 320, f"{longest} has {lines[longest]} lines, a module at most 320: it has two nouns"
    mathematics = sum(lines[path] for path in MATHEMATICS)
    for name, size, budget in (
        ("mathematics", mathematics, 4550),
        ("machinery", sum(lines.values()) - mathematics, 2335),
    ):
        assert size <= budget, (
            f"the {name} has {size} lines, its budget is {budget}: shorten it, or raise the budget in the commit that "
            "needs it, with the reason"
        )


def test_importing_the_package_costs_nothing_and_offers_what_a_user_needs():
    code = (
        "import sys, wnlib; print('numpy' in sys.modules, sum(len(n) for n in wnlib.MODULES.values()), len(dir(wnlib)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False")
    for name in wnlib.__all__:
        assert callable(getattr(wnlib, name))
    with pytest.raises(AttributeError, match="no attribute 'operatr'"):
        wnlib.operatr  # noqa: B018
