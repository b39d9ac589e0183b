# Everything a user or an engineer types. Each target sets up what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
ENGINE := engine/Cargo.toml
ENGINE_SOURCES := $(shell find engine/src -name '*.rs') engine/Cargo.toml engine/Cargo.lock pyproject.toml
CARGO := cargo
# The Python sources are used in place; only the engine is compiled into the package.
MATURIN := $(BIN)/maturin develop --quiet --release --manifest-path $(ENGINE)

.PHONY: help run build test format lint types test-rust test-python normative bench bench-quick fuzz debian clean

help: ## Say what there is.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

run: build ## Set everything up and run a broker on 127.0.0.1:1883.
	$(BIN)/strogoff start

build: $(STAMPS)/engine ## Set everything up; the programs are then in .venv/bin.

$(STAMPS)/venv: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Strogoff needs Python 3.11 or later, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'maturin>=1.9,<2'
	mkdir -p $(STAMPS) && touch $@

$(STAMPS)/engine: $(STAMPS)/venv $(ENGINE_SOURCES)
	VIRTUAL_ENV=$(abspath $(VENV)) $(MATURIN)
	touch $@

$(STAMPS)/test: $(STAMPS)/engine
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$($(BIN)/python tools/test_requirements.py)
	touch $@

clean: ## Remove what was built.
	rm -rf $(VENV) engine/target .pytest_cache .mypy_cache .ruff_cache .hypothesis tests/e2e/node_modules
