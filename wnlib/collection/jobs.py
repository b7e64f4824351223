"""What can be asked of the runner: notebooks, profiles, parameters; and which results are up to date.

A request is checked completely before anything starts. Only the standard library here, and little of it: listing
what is stale must take no longer than a blink.
"""

import ast
import hashlib
import json
import math
import os
import re
import signal
from pathlib import Path
from typing import NamedTuple

from wnlib.collection import depends

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build"
# profile: where it publishes, and the folder of its parameter files (None: the notebook's own values)
PROFILES = {"paper": (ROOT / "figures", None)}
PROFILES |= {profile: (BUILD / profile, NOTEBOOKS / profile) for profile in ("quick", "extended")}
RESUMED = "resumed"  # file in a run's staging folder: it goes on from finished work, its cost is not the whole
OUTPUTS = ("{}.pdf", "{}.png", "{}.json", "{}.npz", "executed/{}.ipynb")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KINDS = {"int": "an int", "float": "a finite float", "bool": "a bool", "str": "a str"}
KINDS |= {f"list[{kind}]": f"a list of {kind}" for kind in ("int", "float", "str")}


class Problem(Exception):
    """A run without outputs: the exit status, and one line that says why."""

    def __init__(self, status, line):
        super().__init__(" ".join(str(line).split()))
        self.status = status


def heed_signals(note=""):
    """From now on SIGINT, SIGTERM and SIGHUP raise Problem (128 + their number), with `note` in its line.

    Under nohup SIGHUP stays ignored.
    """

    def stop(number, frame):
        for other in SIGNALS:  # one is enough; a second must not disturb the clearing up
            signal.signal(other, signal.SIG_IGN)
        raise Problem(128 + number, f"stopped by {signal.Signals(number).name}{note}")

    for number in SIGNALS:
        if (number, signal.getsignal(number)) != (signal.SIGHUP, signal.SIG_IGN):
            signal.signal(number, stop)


class Job(NamedTuple):
    """One checked request. ``stamp`` is None for a run that leaves no trace of being up to date."""

    stem: str
    profile: str
    backend: str | None
    parameters: dict  # final value of every parameter
    overrides: dict  # those that differ from the notebook's parameters cell by request
    output: Path
    stamp: Path | None


def short(path):
    """Return the path as text, from the root where it lies under it."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def stems(profile="paper"):
    """The names of all notebooks, in order; extended parameters have only those that outgrow one machine."""
    every = sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    return every if profile != "extended" else [s for s in every if (NOTEBOOKS / profile / f"{s}.yaml").is_file()]


def parameters_of(stem):
    """Read the cell tagged ``parameters``: ``{name: (type name, value)}``.

    Problem (2) unless there is one such cell, made only of annotated literals of the types in KINDS.
    """
    path = NOTEBOOKS / f"{stem}.ipynb"
    if stem not in stems():
        import difflib

        near = difflib.get_close_matches(stem, stems(), 1)
        hint = f" did you mean {near[0]}?" if near else ""
        raise Problem(2, f"no notebook {stem!r} in {short(NOTEBOOKS)};{hint} there are: {', '.join(stems()) or 'none'}")
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        [cell] = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        body = ast.parse("".join(cell["source"])).body
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise Problem(2, f"{short(path)}: must have one cell of Python tagged 'parameters' ({error})") from None
    parameters = {}
    for node in body:
        where = f"{short(path)}, parameters, line {node.lineno}"
        try:
            kind, value = ast.unparse(node.annotation), ast.literal_eval(node.value)
        except (AttributeError, ValueError):
            raise Problem(2, f"{where}: {ast.unparse(node)!r} must be 'name: type = literal'") from None
        parameters[node.target.id] = (kind, _typed(value, kind, where))
    return parameters


def _typed(value, kind, where):
    """``value`` as the parameter type ``kind``; Problem (2) when it is something else."""
    inner = kind.removeprefix("list[").removesuffix("]")
    if kind not in KINDS:
        raise Problem(2, f"{where}: unknown type {kind}; use one of {', '.join(KINDS)}")
    if kind != inner and isinstance(value, list):
        return [_typed(item, inner, where) for item in value]
    if kind == "float" and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if type(value).__name__ == kind != "float":  # exactly: a bool is no int
        return value
    hint = " (quote it)" if kind == "str" else ""
    if isinstance(value, str) and re.fullmatch(r"[-+]?[\d.]+e[-+]?\d+", value, re.IGNORECASE):
        hint = " (YAML reads it as text: write 1.0e-3, with a point, for 1e-3)"
    raise Problem(2, f"{where}: must be {KINDS[kind]}, not {value!r}{hint}")


def _yaml(text, where):
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Problem(2, f"{where}: not YAML: {error}") from None


def _asked(stem, profile, settings, backend):
    """The values asked for, ``{name: (value, where)}``: the profile's file, then --set, then --backend."""
    asked = {}
    if folder := PROFILES[profile][1]:
        path = folder / f"{stem}.yaml"
        if not path.is_file():
            raise Problem(2, f"{short(path)}: missing; profile {profile} needs it (it may be empty)")
        values = _yaml(path.read_text(encoding="utf-8"), short(path)) or {}
        if not isinstance(values, dict):
            raise Problem(2, f"{short(path)}: must map parameters to values, not be {values!r}")
        asked = {name: (value, short(path)) for name, value in values.items()}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise Problem(2, f"--set {setting}: must be NAME=VALUE, lists without spaces: kappas=[10,20]")
        asked[name] = (_yaml(text, f"--set {setting}"), "--set")
    return asked | ({"backend": (backend, "--backend")} if backend else {})


def _whole(settings):
    """Put together again what make parted at the spaces within a list: kappas=[20, 40]."""
    whole = []
    for piece in settings:
        if whole and whole[-1].count("[") > whole[-1].count("]"):
            whole[-1] += f" {piece}"
        else:
            whole.append(piece)
    return whole


def request(stem, profile="paper", backend=None, settings=(), output=None):
    """Check one request completely and return its Job; Problem (2) for anything wrong in it.

    A run with settings goes to ``build/custom`` unless ``output`` says otherwise; neither kind is stamped.
    """
    known = parameters_of(stem)
    overrides = {}
    for name, (value, where) in _asked(stem, profile, _whole(settings), backend).items():
        if name not in known:
            import difflib

            near = difflib.get_close_matches(str(name), known, 1)
            hint = f" did you mean {near[0]!r}?" if near else ""
            raise Problem(2, f"{where}: {stem} has no parameter {name!r};{hint} it has: {', '.join(known)}")
        overrides[name] = _typed(value, known[name][0], f"{where}: {name} of {stem}")
    return Job(
        stem,
        profile,
        backend,
        {name: value for name, (_, value) in known.items()} | overrides,
        overrides,
        Path(output or (BUILD / "custom" if settings else PROFILES[profile][0])).resolve(),
        None if output or settings else stamp_of(stem, profile),
    )


def note_resumed():
    """Tell the runner, if it started this, that a run goes on from finished work: its cost is not the whole."""
    if staging := os.environ.get("WNLIB_FIGURES"):
        Path(staging, RESUMED).touch()


def stamp_of(stem, profile):
    """Return where the stamp of a published run is: its inputs and outputs, by their digests."""
    return BUILD / "stamps" / profile / f"{stem}.json"


def _digests(paths):
    """``{path from the root: digest, or None for a file that is not there}``."""
    return {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        for path in paths
    }


def inputs_of(stem, profile, backend):
    """All that a run depends on: its request, the files it reads, and the code of the modules it imports."""
    paths = [NOTEBOOKS / f"{stem}.ipynb", ROOT / "requirements.lock"]
    if PROFILES[profile][1]:
        paths.append(PROFILES[profile][1] / f"{stem}.yaml")
    try:
        code = depends.notebook(paths[0])
    except (OSError, ValueError, KeyError, TypeError, SyntaxError):
        code = {}  # whatever it is, running it will tell
    return {"profile": profile, "backend": backend or "auto", "inputs": _digests(paths) | code}


def outputs_of(stem, profile):
    """Return the digests of the five published files; None for one that is not there."""
    return {"outputs": _digests(PROFILES[profile][0] / name.format(stem) for name in OUTPUTS)}


def why(stem, profile="paper", backend=None):
    """Return what makes a published run stale, a list of a few words each; empty where it is up to date."""
    try:
        stamp = json.loads(stamp_of(stem, profile).read_text())
        known, asked = stamp["inputs"] | stamp["outputs"], (stamp["profile"], stamp["backend"])
    except (OSError, ValueError, KeyError, TypeError):
        return ["was not made here"]
    now = inputs_of(stem, profile, backend)
    found = [f"the {word} changed" for word, old in zip(("profile", "backend"), asked, strict=True) if now[word] != old]
    names = now["inputs"] | outputs_of(stem, profile)["outputs"]
    for name in {**names, **known}:
        if names.get(name) is None:
            found.append(f"{name} is gone" if name in names else f"{name} is no longer used")
        elif name not in known:
            found.append(f"{name} is new")
        elif names[name] != known[name]:
            found.append(f"{name} changed")
    return found
