# Everything a fresh machine needs is set up by whichever target is asked for first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEFAULT := not slow and not hardware

export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export MUJOCO_GL ?= egl

.PHONY: demo test slow faults check all clean

demo: $(READY)  ## the whole circle on an embedded twin; ends in demo/report.html
	@test ! -e demo || mv demo "demo.before.$$(date +%Y%m%dT%H%M%S)"
	$(BIN)/robostack demo --directory demo

test: $(READY)  ## the default test suite
	$(BIN)/python -m pytest -n 2 -m "not alone and $(DEFAULT)"
	$(BIN)/python -m pytest -m "alone and $(DEFAULT)" tests/integration tests/faults

slow: $(READY)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

faults: $(READY)  ## take every promise of the node away, and see a test fail
	$(BIN)/python tests/faults/mutate.py

check: $(READY)  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

all: check test slow

$(READY): pyproject.toml setup.py tools/rendering.sh
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "expected Python 3.11 or newer with venv, got $$($(PYTHON) --version);" \
	    "install it (Debian: python3-venv) or name one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[cpu,train,sim,so101,go1,dev]'
	sh tools/rendering.sh $(BIN)/python
	@touch $@

clean:
	rm -rf $(VENV) demo build dist *.egg-info
