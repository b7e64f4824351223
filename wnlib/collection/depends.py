"""What a notebook or a sweep's cell depends on: the modules of the mathematics that it imports, and theirs.

A module counts by its code: comments, docstrings and layout do not. Nor does the machinery, wnlib.collection and
wnlib.sweep, which only runs what others compute.
"""

import ast
import functools
import hashlib
import json
from importlib.util import find_spec
from pathlib import Path

MACHINERY = ("wnlib.collection", "wnlib.sweep")


def digest(value):
    """Return the digest of what JSON can hold."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def modules(*names, package="wnlib"):
    """Return {module: digest of its code} for the modules `names` and all that they import from `package`."""
    known, found = {}, [package, *names]
    while found:
        name = found.pop()
        inside = name == package or name.startswith(f"{package}.")
        if not inside or name in known or name.startswith(MACHINERY):
            continue
        path = _file(name)
        if path is None:  # no module but a name in one, which was found with it
            continue
        known[name], more = _code(path, path.stat().st_mtime_ns, package)
        parent = name.rpartition(".")[0]
        found += [*more, *([parent] if parent else [])]
    return known


def notebook(path):
    """Return {module: digest of its code} for all that the code cells of the notebook at `path` import from wnlib."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return modules(*_imports(ast.parse("\n".join(code)), "wnlib"))


def _file(name):
    """The file of a module, found without importing its package; None where there is none."""
    package, *inner = name.split(".")
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin).parent.joinpath(*inner)
    candidates = (place / "__init__.py", place.with_suffix(".py")) if inner else (Path(spec.origin),)
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def _code(path, changed, package):
    """(digest of the code in the file, the names that it imports from `package`); `changed` tells the cache apart."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = _imports(tree, package)
    for node in ast.walk(tree):
        documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if documented and ast.get_docstring(node) is not None:
            del node.body[0]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imports


def _imports(tree, package):
    """All names that `tree` may import from `package`: modules, names in them, and what stands for one there."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == package:
            found.append(f"{package}.{node.attr}")
    lazy = _lazy(package)
    return [lazy.get(name, name) for name in found]


@functools.cache
def _lazy(package):
    """{package.name: module} of the names that the package itself offers and imports when they are asked for."""
    for node in ast.parse(_file(package).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "MODULES":
            offered = ast.literal_eval(node.value)
            return {f"{package}.{name}": f"{package}.{module}" for module, names in offered.items() for name in names}
    return {}
