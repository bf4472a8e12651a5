# Everything a newcomer needs: `make run`, `make test`. Variables: PYTHON, PORT, DATA_DIR, DEMO_USERS.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PORT ?= 8000
DATA_DIR ?= .sugar
DEMO_USERS ?= 2000
WORKERS ?= 2

.PHONY: run down status install test test-engines lint audit format notebooks notebook-pages clean

run: $(STAMP) ## start everything, load a demo population once, print addresses and a walk; Ctrl-C stops
	@exec $(BIN)/sugar up --port $(PORT) --data-dir $(DATA_DIR) --demo-users $(DEMO_USERS)

down: $(STAMP) ## drain and stop what runs on DATA_DIR
	@$(BIN)/sugar down --data-dir $(DATA_DIR)

status: $(STAMP) ## shards, replicas, lag, dead letters
	@$(BIN)/sugar status --data-dir $(DATA_DIR)

install: $(STAMP) ## the environment, exactly as locked

# Made anew only when the lock file changes; --no-deps: nothing outside the lock gets in but the build tool.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@echo "installing the locked environment into $(VENV)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

test: $(STAMP) ## the whole suite, on embedded servers; two processes, since it mostly waits (WORKERS=0: one)
	$(BIN)/pytest --numprocesses $(WORKERS) --durations 10

ENGINE_TESTS := tests/engines tests/integration/test_log_conformance.py
# An expression of pytest's markers: 'not proved_elsewhere' leaves out what the embedded suite or a neighbour proves.
ENGINE_MARKERS ?=

test-engines: $(STAMP) ## data flow and failures on the engines of a cluster: Apache Kafka (Java 17, Maven), Redis Cluster, nodes of Ray
	@$(BIN)/python -c 'from cluster.engines.kafka import jars; jars()'
	$(BIN)/pytest --engines --durations 20 -m '$(ENGINE_MARKERS)' $(ENGINE_TESTS)

lint: $(STAMP) ## style, types, dependency direction, security
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@# Left out is what ruff's rules S104, S113, S301 and S608 find too; their reasons stand beside each place.
	$(BIN)/bandit --quiet --recursive --severity-level medium --skip B104,B113,B301,B608 configs cluster recommender actors writers serve_apps

audit: ## known vulnerabilities in what production installs; needs pip-audit, in an environment of its own, and its database
	@command -v pip-audit >/dev/null || { echo "pip-audit is not installed: pipx install pip-audit"; exit 1; }
	@# Strict: a package that the database cannot be asked about would be left out, and nothing be found.
	pip-audit --strict --disable-pip --require-hashes --requirement requirements.production.lock

format: $(STAMP)
	$(BIN)/ruff check --fix .

notebooks: $(STAMP) ## JupyterLab with the five notebooks; SUGAR_DATA_DIR=.sugar makes them read that platform
	@PYTHONPATH=$(CURDIR) $(BIN)/jupyter lab notebooks

notebook-pages: $(STAMP) ## execute the notebooks and write them with their plots to docs/notebooks
	@rm -rf docs/notebooks
	@PYTHONPATH=$(CURDIR) OMP_NUM_THREADS=1 $(BIN)/jupyter nbconvert --log-level WARN --to markdown \
		--execute --output-dir docs/notebooks notebooks/*.ipynb
	@sed -i.bak '/Missing packages: .*ipywidgets/d' docs/notebooks/*.md && rm docs/notebooks/*.bak  # Ray's hint at import

clean: ## remove the environment and caches; data in DATA_DIR stays
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
