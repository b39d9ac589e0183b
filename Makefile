# Everything a user or an engineer types. Each target sets up what it needs.

PYTHON ?= python3
FUZZ_SECONDS ?= 60
CRASH_KILLS ?= 200
SIMULATE_SECONDS ?= 3600
POD_ROUNDS ?= 10
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
ENGINE := engine/Cargo.toml
ENGINE_SOURCES := $(shell find engine/src -name '*.rs') $(ENGINE) engine/Cargo.lock pyproject.toml
NODE_MODULES := tests/e2e/node_modules
# The Python sources are used in place; only the engine is compiled into the package.
MATURIN := VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/maturin develop --quiet --release --manifest-path $(ENGINE)
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The `test` extra of pyproject.toml, without building the package a second time.
TEST_REQUIREMENTS := $(BIN)/python -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["test"]))'
# Rust code is checked and tested without Python in it: the tests are plain programs.
CARGO_CHECKS := --manifest-path $(ENGINE) --no-default-features --locked

.PHONY: help run build test format check-format lint types test-rust test-python crash pods simulate normative bench bench-quick fuzz clean

help: ## Say what there is.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

run: build ## Set everything up and run a broker on 127.0.0.1:1883.
	$(BIN)/strogoff start

build: $(STAMPS)/engine ## Set everything up; the programs are then in .venv/bin.

test: check-format lint types test-rust test-python ## Pass every check.

check-format: $(STAMPS)/test
	cargo fmt --manifest-path $(ENGINE) --check
	$(BIN)/ruff format --check .

lint: $(STAMPS)/test
	cargo clippy $(CARGO_CHECKS) --all-targets -- -D warnings
	cargo clippy --manifest-path $(ENGINE) --locked --lib -- -D warnings
	$(BIN)/ruff check .

types: $(STAMPS)/test
	$(BIN)/mypy

test-rust:
	cargo test $(CARGO_CHECKS) --quiet

test-python: $(STAMPS)/test $(STAMPS)/debian $(STAMPS)/node
	$(BIN)/pytest --quiet

crash: $(STAMPS)/test ## Kill a broker under load CRASH_KILLS (200) times, for each way to sync, and judge what was acknowledged.
	for sync in interval always never; do \
		STROGOFF_CRASH_KILLS=$(CRASH_KILLS) STROGOFF_CRASH_SYNC=$$sync \
			$(BIN)/pytest --quiet -rP tests/durability/test_crash.py || exit 1; \
	done

pods: $(STAMPS)/test $(STAMPS)/debian ## Do to nodes in pods of the stand-in for Kubernetes all that may happen to them, POD_ROUNDS (10) times.
	STROGOFF_KUBELET_ROUNDS=$(POD_ROUNDS) $(BIN)/pytest --quiet tests/e2e/kubelet

simulate: $(STAMPS)/test ## Run clusters of the metadata's core through faults for SIMULATE_SECONDS (3600).
	PYTHONPATH=tests $(BIN)/python tests/cluster/simulate.py --seconds $(SIMULATE_SECONDS)

normative: $(STAMPS)/test ## Say which statements of the MQTT specification no test covers.
	$(BIN)/python tests/protocol/coverage.py

format: $(STAMPS)/test ## Format all sources.
	cargo fmt --manifest-path $(ENGINE)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: build ## Measure, beside mosquitto where that is installed; results go to benchmarks/results.
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/cluster.py
	$(BIN)/python benchmarks/bridge.py

bench-quick: build ## The same in two minutes.
	$(BIN)/python benchmarks/run.py --quick

fuzz: ## Feed hostile bytes to decoder, sessions, rule files, transports, links and store, FUZZ_SECONDS (60) each.
	command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked
	cd engine/fuzz && for target in decoder session acl passwords proxy websocket peer store; do \
		mkdir -p target/found/$$target && \
		cargo fuzz run --sanitizer none $$target target/found/$$target corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=1024 || exit 1; \
	done

clean: ## Remove what was built.
	rm -rf $(VENV) engine/target engine/fuzz/target $(NODE_MODULES) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(STAMPS)/venv: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Strogoff needs Python 3.11 or later, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) 'maturin>=1.9,<2'
	mkdir -p $(STAMPS) && touch $@

$(STAMPS)/engine: $(STAMPS)/venv $(ENGINE_SOURCES)
	$(MATURIN)
	touch $@

$(STAMPS)/test: $(STAMPS)/engine pyproject.toml
	$(TEST_REQUIREMENTS) > $(STAMPS)/test-requirements.txt
	$(PIP) --requirement $(STAMPS)/test-requirements.txt
	touch $@

# mosquitto_pub and mosquitto_sub stand in the tests as users' clients, mosquitto as the broker at the other end of a bridge,
# HAProxy as the proxy in front of a broker; `ip` makes the network of the stand-in for Kubernetes, systemd reads the unit.
$(STAMPS)/debian: $(STAMPS)/venv Makefile
	{ export PATH="$$PATH:/usr/sbin" && command -v mosquitto_pub && command -v mosquitto && command -v systemd-analyze && command -v haproxy && command -v ip; } || \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq mosquitto mosquitto-clients haproxy iproute2 systemd; }
	touch $@

# MQTT.js stands in the tests as a user's client.
$(STAMPS)/node: $(STAMPS)/venv tests/e2e/package.json tests/e2e/package-lock.json
	npm ci --prefix tests/e2e --silent --no-audit --no-fund
	touch $@
