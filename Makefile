# `make` lists the targets. GNU make 3.81 (macOS) is enough.
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench bench-guard bench-replay compose-test prove mutants crash-matrix soak docs format lock clean

# A Python of your choice: make setup PYTHON=/opt/python3.13/bin/python3
PYTHON :=
# Options for pytest, or for the bench: make test ARGS="-k guard"
ARGS :=
# All tests run in three processes, each with a Kafka of its own: they wait more than they compute. In the order of their
# folders most of what takes long comes first, and what is quick fills the end.
ALL := -n 3 --dist loadfile --no-loadscope-reorder
# Tests that draw: the same at each run of `make test`, new draws and many more of them in `make prove`
RANDOM_TESTS := tests/unit tests/property tests/machine tests/faults/test_kill_and_flush.py tests/faults/test_redis_cluster.py
# make bench QUICK=1: fewer messages, fewer repetitions
QUICK :=
# make crash-matrix SEEDS=1: how many runs of each step and fault
SEEDS := 5
# make soak DURATION=1800 SEED=7: seconds of faults, and which
DURATION := 300
SEED :=

BIN := .venv/bin
COMPLETE := .venv/.complete
COMPILE := uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(COMPLETE) ## Build .venv with the command `optout` in it; Python 3.11 or newer is all it needs

# The stamp is written last: a set-up that failed halfway is done again, one that is whole costs nothing.
$(COMPLETE): requirements.lock pyproject.toml
	@set -e; \
	python=; \
	for candidate in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo 'No Python 3.11 or newer was found: install one and name it, as in `make setup PYTHON=python3.12`.' >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	  version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	  echo "Your $$python cannot make virtual environments; on Debian and Ubuntu this helps: sudo apt-get install python$$version-venv" >&2; exit 1; \
	fi; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

demo: $(COMPLETE) ## Show a day at three practices on this machine, with nothing to install or configure
	$(BIN)/optout demo

test: $(COMPLETE) ## Run all tests, on real Kafka and Redis, e.g. make test ARGS="-k guard"
	$(BIN)/python -m pytest $(or $(ARGS),$(ALL))

check: $(COMPLETE) ## Everything that CI checks: format, lint, types, import rules, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(or $(ARGS),$(ALL))

bench: $(COMPLETE) ## Measure the raw Kafka client and the worker in turns; QUICK=1 takes a minute
	$(BIN)/python -m bench.yardstick $(if $(QUICK),--quick) $(ARGS)

bench-guard: $(COMPLETE) ## Measure a guard beside the bare Redis command, e.g. make bench-guard ARGS="--turns 3"
	$(BIN)/python -m bench.guard $(ARGS)

bench-replay: $(COMPLETE) ## Measure a replay into an empty Redis, e.g. make bench-replay SUBSCRIPTIONS=1000000
	$(BIN)/python -m bench.replay $(or $(SUBSCRIPTIONS),200000) $(ARGS)

soak: $(COMPLETE) ## Break workers, brokers, Redis and the peace of Kafka for DURATION seconds, hold every promise; SEED= repeats
	$(BIN)/python -m tests.soak --duration $(DURATION) $(if $(SEED),--seed $(SEED))

docs: $(COMPLETE) ## Bring the documents' tables of commands, settings and topics up to date
	$(BIN)/python -m tests.docs.generated

compose-test: $(COMPLETE) ## Run docker-compose.yml for real and see a STOP kept; needs Docker with its compose plugin
	$(BIN)/python -m deploy.compose_test

prove: $(COMPLETE) ## Search the model as deep as it goes, try all mutants, draw new random tests, try Valkey; e.g. make prove ARGS="-v"
	$(BIN)/python -m tests.model $(ARGS)
	$(if $(ARGS),,$(BIN)/python -m tests.mutants)
	$(if $(ARGS),,OPTOUT_TEST_EXPLORE=1 $(BIN)/python -m pytest $(ALL) $(RANDOM_TESTS))
	$(if $(ARGS),,OPTOUT_TEST_EXPLORE=1 OPTOUT_TEST_REDIS_KINDS=valkey $(BIN)/python -m pytest $(ALL) -m 'redis and not kafka')

mutants: $(COMPLETE) ## Take each rule out of the code and see a test turn red, e.g. make mutants ARGS="guard"
	$(BIN)/python -m tests.mutants $(ARGS)

crash-matrix: $(COMPLETE) ## Kill and stop a worker at each step of the protocol, e.g. make crash-matrix SEEDS=1 ARGS="--step apply-after"
	$(BIN)/python -m tests.faults.matrix --seeds $(SEEDS) $(ARGS)

format: $(COMPLETE) ## Format the code and repair what ruff can repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## Resolve the newest versions anew into the three lock files
	@command -v uv >/dev/null || { echo 'make lock needs uv, for instance from `pipx install uv`.' >&2; exit 1; }
	UV_CUSTOM_COMPILE_COMMAND='make lock' $(COMPILE) --all-extras --group dev pyproject.toml -o requirements.lock
	UV_CUSTOM_COMPILE_COMMAND='make lock' $(COMPILE) --group jvm -c requirements.lock -o requirements-jvm.lock
	UV_CUSTOM_COMPILE_COMMAND='make lock' $(COMPILE) --group node -c requirements.lock -o requirements-node.lock

clean: ## Remove .venv and everything else that was built here
	rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
