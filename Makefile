# One command regenerates every figure; `make help` lists the targets. GNU make >= 3.81 and a POSIX shell.

PROFILE := paper
BACKEND :=
PARAMS :=
PYTHON :=
CUDA :=
ONLY :=

ifneq ($(filter paper quick extended,$(value PROFILE)),$(value PROFILE))
$(error PROFILE=$(value PROFILE): choose paper, quick or extended)
endif
ifneq ($(filter auto numpy cupy,$(value BACKEND)),$(value BACKEND))
$(error BACKEND=$(value BACKEND): choose auto, numpy or cupy)
endif
ifneq ($(value ONLY),)
FILE := $(if $(word 2,$(value ONLY)),,tests/$(dir $(value ONLY))test_$(notdir $(value ONLY)).py)
ROOM := $(firstword $(wildcard tests/$(value ONLY) $(FILE)))
ifeq ($(ROOM),)
$(error ONLY=$(value ONLY): choose the NAME of a tests/NAME or tests/test_NAME.py, or ROOM/NAME)
endif
endif

# The environment: .venv, made from the lock; or the interpreter that PYTHON names, taken as it is. The stamp
# carries the lock's checksum, so that touching the lock reinstalls nothing and changing it always does.
ifeq ($(value PYTHON),)
PY := .venv/bin/python
ENV := .venv/lock-$(shell cksum < requirements.lock | tr -s ' \t' '-')
ifeq ($(BACKEND),cupy)
ENV += .venv/cuda
endif
else
PY = "$$INTERPRETER"
ENV := check-python
endif

# What users type reaches the shell in its environment, as it is: nothing in it is expanded or run.
unexport PARAMS PYTHON CUDA ONLY
export SETTINGS := $(value PARAMS)
export INTERPRETER := $(value PYTHON)
export CUDA_VERSION := $(value CUDA)
quoted = '$(subst ','\'',$(1))'
RUN = set -f; set --; for setting in $$SETTINGS; do set -- "$$@" --set "$$setting"; done; \
	$(PY) -m wnlib.collection.run --profile $(PROFILE) $(if $(BACKEND),--backend $(BACKEND)) "$$@"

.DEFAULT_GOAL := help
.PHONY: help figures quick why test bench gpu-check claims verify references gallery lock info clean check-python FORCE

help:  ## list the targets (this)
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1@\2/p' Makefile | awk -F@ '{ printf "%-18s%s\n", $$1, $$2 }'
	@echo '  make figures/NN_slug.pdf   one notebook (any of its five outputs)'
	@echo 'Variables:'
	@echo '  PROFILE=paper|quick        quick: small parameters, into build/quick'
	@echo '  PROFILE=extended           the maps that outgrow one machine, into build/extended (CONTRIBUTING.md)'
	@echo '  BACKEND=auto|numpy|cupy    where the arrays live (cupy installs CuPy once; CUDA=12|13)'
	@echo '  PARAMS="n=6000 seed=1"     override parameters, into build/custom'
	@echo '  PYTHON=python              use that interpreter as it is instead of .venv'
	@echo 'Options: -j2 runs two notebooks at a time, in place of one for each core that has 2 GiB; -k goes on after a failure'
	@echo '         (but 22, which times the machine, waits for all the others).'

# A target that is none: the nearest of those there are. The name is handed over quoted.
.DEFAULT:
	@near=$$( { sed -n 's/^\([a-z-]*\):.*##.*/\1/p' Makefile; ls notebooks | sed -n 's|\(.*\).ipynb$$|figures/\1.pdf|p'; } | \
	  python3 -c 'import difflib, sys; print(*difflib.get_close_matches(sys.argv[1], sys.stdin.read().split(), 1))' \
	  '$(subst ','\'',$@)' 2>/dev/null); \
	echo "no target "'$(subst ','\'',$@)'"$${near:+: did you mean $$near?}; make help lists all" >&2; exit 2

figures: $(ENV)  ## regenerate the figures that are not up to date
	@stale=$$($(RUN) --stale) || exit; \
	if [ -z "$$stale" ]; then echo 'All figures are up to date.'; exit; fi; \
	plan=$$($(PY) -c "$$JOBS" $$stale) || exit; set -- $$plan; jobs=$$1; shift; \
	$(MAKE) --no-print-directory $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j"$$jobs") $$(printf 'figures/%s.pdf ' "$$@")

quick:  ## the same with small parameters, into build/quick (one to two minutes)
	@$(MAKE) --no-print-directory figures PROFILE=quick

# Always asked, seldom run: the runner decides by the contents of files, not by their times. It replaces them whole
# or not at all, so they are precious: make must not delete the old ones when a run fails or is interrupted.
OUTPUTS := figures/%.pdf figures/%.png figures/%.json figures/%.npz figures/executed/%.ipynb
.PRECIOUS: $(OUTPUTS)
$(OUTPUTS): FORCE $(ENV)
	@$(RUN) $(call quoted,$*)

# It measures the machine: alone, after all the others that were asked for.
TIMED := figures/22_performance.pdf
$(TIMED): | $(filter-out $(TIMED),$(filter figures/%.pdf,$(MAKECMDGOALS)))

why: $(ENV)  ## say of each notebook which input makes its figure stale
	@$(RUN) --why

test: $(ENV)  ## lint, format check and all tests; ONLY=operators or collection/run: those of a room, without the slow
	$(if $(ROOM),,$(PY) -m ruff check . && $(PY) -m ruff format --check .)
	OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist worksteal $(if $(ROOM),-m 'not slow' $(call quoted,$(ROOM)))

bench: $(ENV)  ## notebook 22 on this machine, into build/bench: throughput against its limits and against others
	@$(RUN) 22_performance --output build/bench
	@$(PY) -c "$$BENCH"

gpu-check: $(ENV)  ## is CuPy right on this GPU, and how fast? writes figures/gpu.json (with BACKEND=cupy: installs CuPy)
	@$(PY) -m wnlib.collection.gpu

claims: $(ENV)  ## rewrite figures/claims.md and the README's counts from the records in figures/
	@$(PY) -m wnlib.collection.table

verify: $(ENV)  ## are the numbers those of tests/reference? after make figures, or with PROFILE=quick after make quick
	@$(PY) -m wnlib.collection.verify --profile $(PROFILE)

references: $(ENV)  ## make tests/reference anew (PROFILE=) from the figures and one more run of each notebook
	@$(PY) -m wnlib.collection.verify --profile $(PROFILE) --update

gallery: $(ENV)  ## a web site of the executed notebooks, in build/gallery/index.html
	@$(PY) -m wnlib.collection.gallery --profile $(PROFILE)

lock: $(ENV)  ## pin the dependencies of pyproject.toml anew (UPGRADE=1: to the newest versions)
	@compile='$(PY) -m uv pip compile pyproject.toml --universal --fork-strategy fewest --generate-hashes --no-header \
	  --no-emit-index-url --no-emit-find-links --no-annotate --quiet $(if $(UPGRADE),--upgrade)'; \
	eval "$$compile --extra notebooks --extra dev --extra cluster -o requirements.lock" && for cuda in 12 13; do \
	  eval "$$compile --extra cuda$$cuda -c requirements.lock -o requirements-cuda$$cuda.lock" || exit; done

info: $(ENV)  ## versions, processor, threads, GPU
	@$(PY) -c "$$INFO"

clean:  ## remove build/: stamps, quick and custom figures; not the finished cells of sweeps, nor figures/ and .venv
	@[ ! -d build ] || find build/ -mindepth 1 -maxdepth 1 ! -name sweeps -exec rm -rf {} +

# --- environment ---------------------------------------------------------------------------------------

INSTALL = $(if $(shell command -v uv),uv pip install --quiet --python $(PY),$(PY) -m pip install --quiet)
# --no-build-isolation: the build backend is pinned in the lock like everything else.
EDITABLE = $(INSTALL) --no-build-isolation --editable

.venv/lock-%:
	@exec 9>.venv.lock; python=; for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'No Python >= 3.11 on PATH: install one, or name it: make PYTHON=/path/to/python' >&2; exit 1; \
	fi; \
	$$python -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'; [ ! -e $@ ] || exit 0; \
	echo "Setting up .venv from requirements.lock with $$($$python --version) ..."; \
	rm -rf .venv; \
	if command -v uv >/dev/null; then uv venv --quiet --python "$$(command -v $$python)" .venv; \
	else $$python -m venv .venv; fi; \
	$(INSTALL) --require-hashes -r requirements.lock && $(EDITABLE) . --no-deps && touch $@

.venv/cuda: | $(firstword $(ENV))
	@cuda="$$CUDA_VERSION"; \
	if [ -z "$$cuda" ]; then \
	  if ! command -v nvidia-smi >/dev/null; then \
	    echo 'BACKEND=cupy: no nvidia-smi on PATH; use BACKEND=numpy, or name the CUDA version: CUDA=12 or 13' >&2; exit 1; \
	  fi; \
	  cuda=$$(nvidia-smi | sed -n 's/.*CUDA[ A-Z]* Version: *\([0-9]*\).*/\1/p'); \
	fi; \
	case $$cuda in \
	  12|13) $(INSTALL) --require-hashes -r "requirements-cuda$$cuda.lock";; \
	  *) echo "BACKEND=cupy: CUDA version '$$cuda'; 12 and 13 are supported (CUDA=12 overrides)" >&2; exit 1;; \
	esac
	@touch $@

check-python:
	@command -v $(PY) >/dev/null || { printf 'PYTHON=%s: not found\n' $(PY) >&2; exit 1; }
	@$(PY) -c "$$CHECK"

define CHECK
import os, re, sys
named = "PYTHON=" + os.environ["INTERPRETER"]
if sys.version_info < (3, 11):
    sys.exit(named + ": Python 3.11 or newer is needed; it is " + sys.version.split()[0])
import tomllib
from importlib.util import find_spec
from importlib.metadata import distributions
installed = {re.sub("[-_.]+", "-", d.metadata["Name"] or "").lower() for d in distributions()}
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
wanted = project["dependencies"] + project["optional-dependencies"]["notebooks"]
missing = [n for n in (re.match("[\\w-]+", w)[0] for w in wanted) if n not in installed]
if missing:
    sys.exit(named + ": it lacks " + ", ".join(missing) + "; pip install -r requirements.lock, or leave PYTHON out")
endef

define INFO
import os, platform, psutil, re, shutil, subprocess
from importlib.metadata import version
import numpy, scipy, threadpoolctl
model = platform.processor() or platform.machine()
if os.path.exists("/proc/cpuinfo"):
    model = (re.search("model name.*: (.*)", open("/proc/cpuinfo").read()) or ["", model])[1]
print("Python  ", platform.python_version(), "on", platform.platform())
print("Packages", *(f"{n} {version(n)}," for n in ("numpy", "scipy", "matplotlib", "papermill", "ipykernel")))
print("CPU     ", model + ",", psutil.cpu_count(logical=False), "cores,", os.cpu_count(), "threads")
print("Memory  ", round(psutil.virtual_memory().total / 2**30, 1), "GiB")
for pool in threadpoolctl.threadpool_info():
    print("BLAS    ", pool["internal_api"], pool["version"], pool.get("architecture", ""), pool["num_threads"], "threads")
gpu = shutil.which("nvidia-smi")
query = ["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
print("GPU     ", subprocess.run([gpu, *query], capture_output=True, text=True).stdout.strip() if gpu else "none")
endef

# A notebook computes with one thread and takes at most 2 GiB: this many do not step on one another.
# How many at a time, and the stems given, those first that took longest: no core waits for the last one.
define JOBS
import json, pathlib, sys
from wnlib import backend
def seconds(stem):
    try:
        return json.loads(pathlib.Path(f"figures/{stem}.json").read_text(encoding="utf-8"))["cost"]["seconds"]
    except (OSError, ValueError, KeyError):
        return float("inf")
free = backend.available_memory(backend.namespace("numpy"))
print(max(1, min(backend.processors(), free // 2**31)), *sorted(sys.argv[1:], key=seconds, reverse=True))
endef

define BENCH
import json
from wnlib import claims
print(claims.table(json.load(open("build/bench/22_performance.json"))["claims"]))
endef
export CHECK INFO JOBS BENCH
