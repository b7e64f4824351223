"""What can be asked of the runner: notebooks, profiles, parameters; and which results are up to date.

A request is checked completely before anything starts. Only the standard library here, and little of it: listing
what is stale must take no longer than a blink.
"""

import argparse
import ast
import difflib
import functools
import hashlib
import math
import os
import re
import reprlib
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from wnlib.collection import depends, files

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
# No parameter is larger, nor a float smaller but for 0: a double holds every such int, and the float's square.
SIZES = {"int": (1, 10**15), "float": (1e-100, 1e100)}


class Problem(Exception):
    """A run without outputs: the exit status, and one line that says why."""

    def __init__(self, status, line):
        super().__init__(" ".join(str(line).split()))
        self.status = status


@contextmanager
def reading(path, way_out, status=1):
    """Make one line, with the file and the way out, of whatever goes wrong with what was read from `path`.

    All that is done with a file's contents belongs within. A file that is not there is left to the caller.
    """
    try:
        yield
    except (Problem, FileNotFoundError):
        raise
    except Exception as error:  # a damaged file can raise anything
        reason = f"{type(error).__name__}: {error!s:.100}"
        raise Problem(status, f"{short(path)} cannot be read ({reason}): {way_out}") from None


def parser(name, doc):
    """Return the argument parser of `python -m name`, with its doc and --profile: it refuses in one line."""
    made = argparse.ArgumentParser(prog=f"python -m {name}", description=(doc or "").split("\n")[0])
    made.add_argument("--profile", default="paper", choices=PROFILES, help="whose parameters (default: paper)")
    made.error = lambda line: made.exit(2, f"{' '.join(line.split())}\n")
    return made


def command(main):
    """Let `main` return the exit status, 0 for None; what stops it takes one line on stderr.

    A closed stream is nowhere, and what a stream cannot encode is escaped.
    """

    @functools.wraps(main)
    def run(*arguments):
        for stream, mode in {"stdin": "r", "stdout": "w", "stderr": "w"}.items():
            if getattr(sys, stream) is None:
                setattr(sys, stream, open(os.devnull, mode))  # noqa: SIM115
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            status = main(*arguments) or 0
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # whoever read has gone; nothing is to be said when the interpreter flushes once more
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return 1
        except (Problem, OSError, MemoryError, KeyboardInterrupt) as problem:
            line = " ".join(str(problem).split()) or type(problem).__name__
            # On a terminal, a progress bar may have been left on this line.
            print("\r\033[K" * sys.stderr.isatty() + line, file=sys.stderr)
            return 130 if isinstance(problem, KeyboardInterrupt) else getattr(problem, "status", 1)

    return run


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
    settings: tuple = ()  # those of them that were asked for by hand, as NAME=VALUE


def short(path):
    """Return the path as text, from the root where it lies under it."""
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)


def stems(profile="paper"):
    """The names of all notebooks, in order; extended parameters have only those that outgrow one machine.

    Problem (2) for a name that a shell or make would take apart.
    """
    every = sorted(path.stem for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    for stem in every:
        if not re.fullmatch(r"\w+", stem, re.ASCII):
            raise Problem(2, f"{short(NOTEBOOKS)}/{stem}.ipynb: rename it NN_slug, of letters, digits and _")
    return every if profile != "extended" else [s for s in every if (NOTEBOOKS / profile / f"{s}.yaml").is_file()]


def parameters_of(stem):
    """Read the cell tagged ``parameters``: ``{name: (type name, value, least)}``.

    A list has a member, an int that is 1 or more stays so, a float > 0 too, and one that is 0 may grow: the value that
    stands there says what the least is, unless the comment does, as ``(>= 0)``, or it is negative. Problem (2) unless
    there is one such cell, made only of annotated literals of the types in KINDS.
    """
    path = NOTEBOOKS / f"{stem}.ipynb"
    if stem not in stems():
        raise Problem(2, f"no notebook {stem!r} in {short(NOTEBOOKS)};{_near(stem, stems())}")
    parameters = {}
    with reading(path, "it must have one cell of Python tagged 'parameters'", 2):
        cells = files.parsed(path)["cells"]
        [cell] = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
        source = "".join(cell["source"])
        for node in ast.parse(source).body:
            where = f"{short(path)}, parameters, line {node.lineno}"
            try:
                name, kind, value = node.target.id, ast.unparse(node.annotation), ast.literal_eval(node.value)
            except (AttributeError, ValueError):
                raise Problem(2, f"{where}: {ast.unparse(node)!r} must be 'name: type = literal'") from None
            value = _typed(value, kind, where)
            numbers = (value if isinstance(value, list) else [value]) if _member(kind) in SIZES else [-1]
            zero = min(numbers) == 0 or re.search(r"#.*\(>= 0\)", source.splitlines()[node.end_lineno - 1])
            least = -math.inf if min(numbers) < 0 else 0 if zero else SIZES[_member(kind)][0]
            parameters[name] = (kind, value, least)
    return parameters


def _near(name, known, what="there are"):
    near = difflib.get_close_matches(name, known, 1)
    return (f" did you mean {near[0]!r}?" if near else "") + f" {what}: {', '.join(known) or 'none'}"


def _member(kind):
    return kind.removeprefix("list[").removesuffix("]")


def _typed(value, kind, where, least=-math.inf):
    """``value`` as the parameter type ``kind``; Problem (2) when it is something else, or out of SIZES."""
    inner = _member(kind)
    if kind not in KINDS:
        raise Problem(2, f"{where}: unknown type {kind}; use one of {', '.join(KINDS)}")
    if kind != inner and isinstance(value, list) and value:
        return [_typed(item, inner, where, least) for item in value]
    is_float = kind == "float" and type(value) in (int, float) and not math.isinf(value) and value == value
    if is_float or type(value).__name__ == kind != "float":  # exactly: a bool is no int
        tiny, huge = SIZES.get(kind, (0, math.inf))
        if kind in SIZES and not (least <= value and (not value or tiny <= abs(value) <= huge)):
            low = {-math.inf: f"0, or of size {tiny:g}", 0: f"0, or from {tiny:g}"}.get(least, f"from {tiny:g}")
            raise Problem(2, f"{where}: must be {low} to {huge:g}, not {_shown(value)}")
        return float(value) if kind == "float" else value
    hint = " (quote it)" if kind == "str" else " (at least one)" if value == [] else ""
    if kind == "int" and isinstance(value, float) and value.is_integer():
        hint = f" (write {_shown(int(value))})"
    raise Problem(2, f"{where}: must be {KINDS[kind]}, not {_shown(value)}{hint}")


def _shown(value):
    """The start of a value's repr, however long or deep it is."""
    try:
        return reprlib.repr(value)
    except ValueError:
        return "a number of thousands of digits"


def _yaml(text, where):
    import yaml

    loader, number = type("Loader", (yaml.SafeLoader,), {}), re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
    loader.add_implicit_resolver("tag:yaml.org,2002:float", number, None)  # 1e3 too, as in YAML 1.2
    try:
        return yaml.load(text, loader)
    except Exception as error:  # not only its own: numbers too long, nesting too deep, tags that do not fit
        raise Problem(2, f"{where}: not YAML: {error!s:.200}") from None


def _asked(stem, profile, settings, backend):
    """The values asked for, ``{name: (value, where)}``: the profile's file, then --set, then --backend."""
    asked = {}
    if folder := PROFILES[profile][1]:
        path = folder / f"{stem}.yaml"
        if not path.is_file():
            raise Problem(2, f"{short(path)}: missing; profile {profile} needs it (it may be empty)")
        with reading(path, "restore it", 2):
            values = _yaml(files.read(path).decode(), short(path)) or {}
        if not isinstance(values, dict):
            raise Problem(2, f"{short(path)}: must map parameters to values, not be {_shown(values)}")
        asked = {name: (value, short(path)) for name, value in values.items()}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise Problem(2, f"--set {setting:.60}: must be NAME=VALUE, lists without spaces: kappas=[10,20]")
        asked[name] = (_yaml(text, f"--set {setting:.60}"), "--set")
    return asked | ({"backend": (backend, "--backend")} if backend else {})


def _whole(settings):
    """Put together again what make parted at the spaces within a list: kappas=[20, 40]."""
    whole = []
    for piece in settings:
        parted = whole and whole[-1].count("[") > whole[-1].count("]")
        whole[len(whole) - bool(parted) :] = [f"{whole[-1]} {piece}" if parted else piece]
    return whole


def request(stem, profile="paper", backend=None, settings=(), output=None):
    """Check one request completely and return its Job; Problem (2) for anything wrong in it.

    A run with settings goes to ``build/custom`` unless ``output`` says otherwise; neither kind is stamped.
    """
    known = parameters_of(stem)
    overrides = {}
    for name, (value, where) in _asked(stem, profile, _whole(settings), backend).items():
        if name not in known:
            raise Problem(2, f"{where}: {stem} has no parameter {_shown(name)};{_near(str(name), known, 'it has')}")
        overrides[name] = _typed(value, known[name][0], f"{where}: {name} of {stem}", known[name][2])
    parameters = {name: value for name, (_, value, _) in known.items()} | overrides
    folder = Path(os.path.realpath(output or (BUILD / "custom" if settings else PROFILES[profile][0])))
    stamp = None if output or settings else stamp_of(stem, profile)
    return Job(stem, profile, backend, parameters, overrides, folder, stamp, tuple(settings))


def note_resumed():
    """Tell the runner, if it started this, that a run goes on from finished work: its cost is not the whole."""
    if staging := os.environ.get("WNLIB_FIGURES"):
        Path(staging, RESUMED).touch()


def stamp_of(stem, profile):
    """Return where the stamp of a published run is: its inputs and outputs, by their digests."""
    return BUILD / "stamps" / profile / f"{stem}.json"


def digest(path):
    """Return the digest of a file; None where there is none."""
    return hashlib.sha256(files.read(path)).hexdigest() if path.is_file() else None


def inputs_of(stem, profile, backend):
    """All that a run depends on: its request, the files it reads, and the code of the modules it imports."""
    paths = [NOTEBOOKS / f"{stem}.ipynb", ROOT / "requirements.lock"]
    if PROFILES[profile][1]:
        paths.append(PROFILES[profile][1] / f"{stem}.yaml")
    try:
        code = depends.notebook(paths[0])
    except Exception:
        code = {}  # whatever it is, running it will tell
    inputs = {short(path): digest(path) for path in paths} | code
    return {"profile": profile, "backend": backend or "auto", "inputs": inputs}


def outputs_of(stem, profile):
    """Return the digests of the five published files; None for one that is not there."""
    paths = [PROFILES[profile][0] / name.format(stem) for name in OUTPUTS]
    return {"outputs": {short(path): digest(path) for path in paths}}


def why(stem, profile="paper", backend=None):
    """Return what makes a published run stale, a list of a few words each; empty where it is up to date."""
    try:
        stamp = files.parsed(stamp_of(stem, profile))
        known, asked = {**stamp["inputs"], **stamp["outputs"]}, (stamp["profile"], stamp["backend"])
    except Exception:  # none, or a damaged one
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
