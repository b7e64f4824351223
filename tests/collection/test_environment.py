"""pyproject.toml, requirements.lock and environment.yml say the same."""

import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from wnlib.collection.jobs import ROOT

LOCKED_EXTRAS = ("dev", "cluster")  # the CUDA wheels depend on the machine's driver


def read_pins(lock):
    """The lock's entries as ``{name: [(Requirement, number of hashes)]}``."""
    pins = {}
    for entry in re.split(r"\n(?=\S)", lock.strip()):
        if not entry.startswith("#"):
            requirement = Requirement(entry.split("\\\n")[0].strip())
            pins.setdefault(canonicalize_name(requirement.name), []).append(
                (requirement, len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", entry)))
            )
    return pins


def problems(project, lock, conda):
    """Every disagreement between the texts of pyproject.toml, requirements.lock and environment.yml."""
    project, conda = tomllib.loads(project)["project"], yaml.safe_load(conda)
    found = [f"the lock names an index: {line}" for line in lock.splitlines() if "://" in line or "index" in line]
    pins = read_pins(lock)
    for name, entries in pins.items():
        for requirement, hashes in entries:
            if not re.fullmatch(r"==[^*,]+", str(requirement.specifier)):
                found.append(f"{name}: {requirement.specifier or 'no version'} is not an exact pin")
            if not hashes:
                found.append(f"{name}: no hash")
    extras = project["optional-dependencies"]
    for text in sum((extras[name] for name in LOCKED_EXTRAS), project["dependencies"]):
        direct = Requirement(text)
        entries = pins.get(canonicalize_name(direct.name), [])
        if not entries:
            found.append(f"{direct.name}: not in the lock")
        for requirement, _ in entries:
            for pinned in requirement.specifier:
                if not direct.specifier.contains(pinned.version, prereleases=True):
                    found.append(f"{direct.name}: the lock's {pinned} does not satisfy {direct.specifier}")
    python = f"python{project['requires-python']}"
    if conda["dependencies"] != [python, "pip", {"pip": ["-r requirements.lock"]}]:
        found.append(f"environment.yml: {conda['dependencies']} is not {python}, pip and the lock")
    return found


TEXTS = [(ROOT / name).read_text() for name in ("pyproject.toml", "requirements.lock", "environment.yml")]


@pytest.mark.parametrize("extra", ["cuda12", "cuda13"])
def test_the_gpu_s_packages_are_pinned_and_beside_the_lock_s(extra):
    """The driver decides which of the two is installed; what is in the lock too has the lock's version."""
    pins, known = read_pins((ROOT / f"requirements-{extra}.lock").read_text()), read_pins(TEXTS[1])
    [wanted] = map(Requirement, tomllib.loads(TEXTS[0])["project"]["optional-dependencies"][extra])
    assert wanted.name in pins
    for name, entries in pins.items():
        assert all(hashes and re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin, hashes in entries), name
        assert name not in known or {str(pin) for pin, _ in entries} <= {str(pin) for pin, _ in known[name]}, name
    assert all(
        pin.specifier.prereleases or wanted.specifier.contains(str(pin.specifier)[2:]) for pin, _ in pins[wanted.name]
    )


def test_the_three_agree():
    assert len(read_pins(TEXTS[1])) > 50
    assert problems(*TEXTS) == []


@pytest.mark.parametrize(
    ("which", "pattern", "replacement", "problem"),
    [
        (1, r"(?m)^numpy==(.*\n)( .*\n?)+", "", "numpy: not in the lock"),
        (1, r"(?m)^numpy==[\d.]+", "numpy==1.0", "numpy: the lock's ==1.0 does not satisfy >=2.2"),
        (1, r"(?m)^tqdm==", "tqdm>=", "tqdm: >=4.70.1 is not an exact pin"),
        (1, r"(?m)^(tqdm==\S+) \\\n( .*\n?)+", r"\1\n", "tqdm: no hash"),
        (1, r"\A", "--index-url https://example.org/simple\n", "the lock names an index"),
        (0, r'"numpy>=[\d.]+"', '"numpy>=99"', "numpy: the lock's"),
        (0, r"(?m)^dev = \[", 'dev = [\n    "newcomer",', "newcomer: not in the lock"),
        (0, r'requires-python = ">=3.11"', 'requires-python = ">=3.12"', "environment.yml:"),
        (2, r"-r requirements.lock", "numpy", "environment.yml:"),
        (2, r"python>=3.11", "python>=3.10", "environment.yml:"),
    ],
)
def test_a_disagreement_is_found(which, pattern, replacement, problem):
    texts = list(TEXTS)
    texts[which], count = re.subn(pattern, replacement, texts[which])
    assert count >= 1
    if problem == "the lock names an index":
        texts[1] = texts[1].split("\n", 1)[1] + "\n# " + texts[1].split("\n", 1)[0]
    assert any(found.startswith(problem) for found in problems(*texts)), problems(*texts)
