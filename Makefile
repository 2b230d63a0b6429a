# One command each; `make help` lists them. Everything happens in .venv, made on first use.
PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test chaos laws fuzz differential check format docs bench lock clean

help: ## List the commands
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

run: .venv/installed ## Set up, then start the demo: backend, proxy, scheduler, users, and lines to try
	$(BIN)/farebox demo

# In their order: xdist would begin with the files of many tests, and end with those whose few tests wait for processes.
test: .venv/installed ## Set up, then run every test
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# The same seed makes the same plan; without one, another every time. OPTIONS: --json, --keep, --page docs/chaos.md.
KILLS ?= 60
DATABASE ?= all
chaos: .venv/installed ## Kill everything at random points and compare three books (KILLS=, SEED=, DATABASE=, OPTIONS=)
	@$(BIN)/python -m tests.chaos --kills $(KILLS) --database $(DATABASE) $(if $(SEED),--seed $(SEED)) $(OPTIONS)

EXAMPLES ?= 200
laws: .venv/installed ## Try random series of verbs on the ledger, against an oracle (EXAMPLES=, SEED=, DATABASE=)
	@$(BIN)/python -m tests.laws --examples $(EXAMPLES) --database $(DATABASE) $(if $(SEED),--seed $(SEED))

SECONDS ?= 60
TARGET ?= all
fuzz: .venv/installed ## Feed parsers what nobody expects, led by coverage (SECONDS= each, TARGET=, OPTIONS=--keep --json)
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) --target $(TARGET) $(OPTIONS)

# The same seed asks the same. OPTIONS: --json, --page docs/security.md.
REQUESTS ?= 5000
ANSWERS ?= 2500
differential: .venv/installed ## Odd requests and answers through Farebox, read by everybody's parsers (REQUESTS=, SEED=)
	@$(BIN)/python -m tests.differential --requests $(REQUESTS) --answers $(ANSWERS) $(if $(SEED),--seed $(SEED)) $(OPTIONS)

check: .venv/installed ## Format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/installed ## Format, and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/installed ## Write the generated reference
	$(BIN)/python docs/generate.py

bench: .venv/installed ## Measure against a bare proxy, the ledger with a million accounts, uploads, abuse: twenty minutes
	$(BIN)/python bench/throughput.py
	$(BIN)/python bench/ledger.py
	$(BIN)/python bench/uploads.py
	$(BIN)/python bench/abuse.py

lock: .venv/installed ## Pin every dependency with its hashes, for every platform; for deploy/ without those of tests
	$(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --generate-hashes --group dev --no-header \
		--output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --quiet --universal --generate-hashes --extra postgresql --no-header \
		--constraint requirements.lock --output-file deploy/requirements.lock
	echo hatchling | $(BIN)/uv pip compile - --quiet --universal --generate-hashes --no-header --no-annotate \
		--constraint requirements.lock --output-file deploy/build.lock

clean: ## Remove what the commands made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache farebox-demo
