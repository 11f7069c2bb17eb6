# make demo    set up here and run the main job on real input, each command shown
# make test    the test suite
# make check   everything that must hold before a commit
# make bench   the figures, as ratios against things that stand still
# make generate  argument table, completions and OPTIONS of the man pages, from the declaration in evtool/cli/app.py

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PYTEST_ARGS ?= -n auto

.PHONY: demo test lint check generate bench clean

# An editable install, compiled: a start must not pay for compiling.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet --group dev --editable .
	@touch $@

demo: $(READY)
	@PATH="$(abspath $(BIN)):$$PATH" sh tests/demo.sh

test: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m evtool.cli.generate --check

check: lint test

generate: $(READY)
	$(BIN)/python -m evtool.cli.generate

bench: $(READY)
	$(BIN)/python -m tests.bench

clean:
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
