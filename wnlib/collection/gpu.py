"""`make gpu-check`: is CuPy right on this machine's GPU, and how fast? Writes figures/gpu.json, with its date.

Parity: the tests marked `gpu`, among them every public array function and every notebook's code. Reproduction: the
quick profiles on CuPy against the references that NumPy made. Speed: notebook performance, and the seconds that
overparameterization takes at the paper's size. Exit status: 0 all passed; 1 something failed, and no record is written;
2 there is no GPU.
"""

import datetime
import importlib
import json
import re
import subprocess
import sys

import numpy as np

from wnlib import backend
from wnlib.collection import files, jobs, run, verify

RECORD = jobs.ROOT / "figures" / "gpu.json"
FOLDER = jobs.BUILD / "gpu"
PERFORMANCE, PAPER_SCALE = "22_performance", "03_overparameterization"


def parity():
    """Run the tests marked `gpu`; return the counts {"passed": …}. Problem (1) where one fails or none runs."""
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=jobs.ROOT, capture_output=True, text=True)
    last = (done.stdout.strip().splitlines() or ["no output"])[-1]
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|skipped|errors?)", last)}
    if done.returncode or not counts.get("passed"):
        sys.stderr.write(done.stdout)
        raise jobs.Problem(1, f"parity: {last}")
    return counts


def notebook(stem, profile):
    """Run a notebook into FOLDER/profile; return its record and arrays. On CuPy: "auto" takes it, there is a device."""
    run.run(jobs.request(stem, profile, output=FOLDER / profile))
    return verify.results(FOLDER / profile, stem)


def machine(xp):
    """The device and the versions that its numbers depend on."""
    runtime, query = xp.cuda.runtime, ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True).stdout.split("\n")[0].strip()
    except OSError:
        driver = ""
    return {
        "device": backend.device(xp),
        "memory_gib": round(runtime.memGetInfo()[1] / 2**30, 1),
        "driver": driver or f"CUDA {runtime.driverGetVersion()}",
        "cuda": runtime.runtimeGetVersion(),
        "cupy": importlib.import_module("cupy").__version__,
        "numpy": np.__version__,
        "python": sys.version.split()[0],
    }


def record(xp):
    """Return the whole record: the machine, parity, reproduction and speed."""
    found = {"date": datetime.date.today().isoformat(), **machine(xp), "parity": parity()}
    with_reference = [stem for stem in jobs.stems() if (verify.REFERENCE / "quick" / f"{stem}.json").is_file()]
    for stem in with_reference:
        notebook(stem, "quick")
    rows, _ = verify.verify(with_reference, "quick", FOLDER / "quick")
    off = [" ".join(row[:2]) for row in rows if row[-1] == "NO"]
    if off:
        raise jobs.Problem(1, f"reproduction: {len(off)} of {len(rows)} rows are not: {', '.join(off[:3])}")
    found["reproduced"] = len(rows)
    claimed, _ = notebook(PERFORMANCE, "paper")
    found["claims"] = claimed["claims"]
    found["paper_scale_seconds"] = notebook(PAPER_SCALE, "paper")[0]["cost"]["seconds"]
    return found


@jobs.command
def main():
    """The command; returns the exit status."""
    try:
        xp = backend.namespace("cupy")
    except RuntimeError as reason:
        raise jobs.Problem(2, reason) from None
    files.write(RECORD, json.dumps(record(xp), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    print(f"{jobs.short(RECORD)}: made")


if __name__ == "__main__":
    sys.exit(main())
