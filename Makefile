# Every target makes the environment first, once: a second call installs nothing.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help train test test-all lint types format notebooks lock clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 …") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

train: $(READY)  ## train on the embedded digits and judge on unseen ones (ARGS="loss.alpha=1 …" for more)
	$(BIN)/python -m dml.train baselines=true $(ARGS)

# Tests start dozens of processes, each of which would compile the package where PYTHONDONTWRITEBYTECODE is set.
test: $(READY)  ## all tests, a file at a time on each core
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(SLOW_TOO) $(ARGS)

test-all: SLOW_TOO := -m ""
test-all: test  ## those tests, too, that take long or wait for timeouts

lint: $(READY)  ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## static types
	$(BIN)/mypy

format: $(READY)  ## mend style where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(READY)  ## run the notebooks and store them with their outputs
	$(BIN)/python scripts/run_notebooks.py

lock: $(READY)  ## resolve the newest allowed versions into requirements.txt
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade \
	  --no-annotate --quiet --custom-compile-command "make lock" --output-file requirements.txt

clean:  ## remove the environment and caches, keep runs
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
