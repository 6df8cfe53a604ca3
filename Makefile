# Guilder. `make demo` shows it working, `make test` runs every test; `make help` lists the rest.
PYTHON ?= python3
BIN := .venv/bin
RUNTIME := .venv/.runtime
DEVELOPMENT := .venv/.development

.PHONY: help setup demo test test-fast fmt lint types arch generate node bench bench-large chaos chaos-quick chaos-bugs chaos-simulation ci lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(RUNTIME): requirements/runtime.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Guilder needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $(RUNTIME)

$(DEVELOPMENT): requirements/development.lock $(RUNTIME)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/development.lock
	@touch $(DEVELOPMENT)

setup: $(DEVELOPMENT) ## .venv with everything for development

demo: $(RUNTIME) ## the whole system up, real payments through, the books printed (KEEP=1 leaves it running)
	$(BIN)/guilder demo $(if $(KEEP),--keep)

test: $(DEVELOPMENT) ## every test; what this machine cannot run is skipped with its reason
	$(BIN)/pytest -n 4 --dist worksteal

test-fast: $(DEVELOPMENT) ## unit and contract tests
	$(BIN)/pytest tests/unit tests/contract

fmt: $(DEVELOPMENT) ## format the code
	$(BIN)/ruff check --fix src tests benchmarks chaos

lint: $(DEVELOPMENT) ## ruff
	$(BIN)/ruff check src tests benchmarks chaos

types: $(DEVELOPMENT) ## mypy --strict
	$(BIN)/mypy

arch: $(DEVELOPMENT) ## who may import whom
	$(BIN)/lint-imports

generate: $(DEVELOPMENT) ## documents that are drawn from the code
	$(BIN)/python docs/generate.py

node: ## the official stripe-node and axe, for their tests (needs npm; checked against the hashes in requirements/node)
	npm ci --prefix requirements/node --ignore-scripts --no-audit --no-fund --loglevel=error

bench: $(DEVELOPMENT) ## the canonical workload; appends to benchmarks/history
	$(BIN)/python -m benchmarks

bench-large: $(DEVELOPMENT) ## the ledger with ten million transfers in the books
	$(BIN)/python -m benchmarks.ledger --rows 10000000

chaos: $(DEVELOPMENT) ## faults mixed by chance for MINUTES=10, the seed printed; SEED=n repeats one
	$(BIN)/python -m chaos run --minutes $(or $(MINUTES),10) $(if $(SEED),--seed $(SEED))

chaos-quick: $(DEVELOPMENT) ## what CI runs: every crash point, every fault once, 10,000 payments, failovers, a full disk, three brokers, the canary
	$(BIN)/python -m chaos quick $(if $(SEED),--seed $(SEED))

chaos-bugs: $(DEVELOPMENT) ## plant each seeded defect; every one must be found
	$(BIN)/python -m chaos bugs $(if $(SEED),--seed $(SEED))

chaos-simulation: $(DEVELOPMENT) ## the payment core in a simulated world, thousands of seeds
	$(BIN)/python -m chaos.simulation --seeds $(or $(SEEDS),10000)

ci: lint types arch test generate ## what CI runs
	git diff --exit-code -- docs
	$(BIN)/python -m chaos quick --no-results

lock: ## renew both locks (needs uv)
	uv pip compile -q pyproject.toml --extra demo --extra build --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -o requirements/runtime.lock
	uv pip compile -q pyproject.toml --extra demo --extra build --extra dev --generate-hashes --no-emit-index-url --no-header --python-version 3.11 -c requirements/runtime.lock -o requirements/development.lock

clean: ## remove what was built
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
