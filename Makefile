# make demo      set up here and run the main job on real input, each command shown
# make test      the test suite
# make lint      format, lint, types, and that all that is generated is current
# make check     everything that must hold before a commit
# make bench     the figures, as ratios against things that stand still
# make bench-nats   those of the store on NATS JetStream, beside the client library by hand
# make torture   kills, power cuts, failing and full disks, row by row; MINUTES=60 says for how long
# make mutants   changes the log's code, mutant by mutant, to see whether the tests notice; MINUTES=60 MODULES="line topic"
# make generate  argument table, completions and OPTIONS of the man pages, from the declaration in evtool/cli/app.py
#
# Needs GNU make and Python 3.11 or newer; everything else goes into .venv. PYTHON=… chooses another Python.

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST_ARGS ?= -n auto
MINUTES ?= 60

# The first Python that is new enough; asked for only when .venv is made.
ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for one in python3 python3.13 python3.12 python3.11; do \
	$$one -c '$(ENOUGH)' 2>/dev/null && { echo $$one; break; }; done)

# A start must not pay for compiling, so nobody may forbid Python to keep what it compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint check generate bench bench-nats torture mutants clean

# Made anew when pyproject.toml changed, and when the last attempt did not come to its end.
$(READY): pyproject.toml
	@[ -n "$(PYTHON)" ] || { \
	  echo "make: evtool needs Python 3.11 or newer, and python3 is $$(python3 -V 2>/dev/null || echo missing)." >&2; \
	  echo "hint: install a newer one, or name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c '$(ENOUGH)' 2>/dev/null || { \
	  echo "make: evtool needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -V 2>/dev/null || echo missing)." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot make a virtual environment: its modules venv and ensurepip are missing." >&2; \
	  echo "hint: on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --group dev --editable .
	$(BIN)/python -m compileall -q evtool
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
	@if command -v shellcheck >/dev/null; then set -x; shellcheck .ci/run tests/*.sh; \
	else echo "shellcheck is not installed: the shell scripts were not checked"; fi

check: lint test

generate: $(READY)
	$(BIN)/python -m evtool.cli.generate

bench: $(READY)
	$(BIN)/python -m compileall -q evtool
	$(BIN)/python -m tests.bench

bench-nats: $(READY)
	$(BIN)/python -m compileall -q evtool
	$(BIN)/python -m tests.bench nats

torture: $(READY)
	$(BIN)/python -m compileall -q evtool
	$(BIN)/python -m tests.faults --minutes $(MINUTES)

# mutmut is wanted here alone, and brings much with it.
mutants: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --group mutants
	$(BIN)/python -m tests.mutants --minutes $(MINUTES) $(MODULES)

clean:
	rm -rf $(VENV) dist mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
