# Every target works as the first command on a fresh clone: it makes .venv and installs what it needs, once.
# PYTHON chooses the interpreter that .venv is made from: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
# what follows the command of demo, bench and overhead
ARGS ?=
# processes that share the tests
WORKERS ?= auto

comma := ,
# says nothing when the share is reached, so that pytest has the last word
covered = table=$$($(BIN)/coverage report --fail-under=$(1) $(2)) || { echo "$$table"; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help demo test oldest lint format bench-quick bench bench-full overhead notebooks docs clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

demo: .venv/.demo ## train a small super-resolution network with all automations (ARGS="--fast", ARGS="--config FILE")
	$(BIN)/lightning-automations demo $(ARGS)

test: lint ## lint, then all tests with coverage
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal --cov --cov-report=
	@$(call covered,100,--include='*/core/*$(comma)*/config/*')
	@$(call covered,90,--omit='*/core/*$(comma)*/config/*')

oldest: .venv-oldest/.test ## all tests with the oldest versions that are supported (constraints-oldest.txt)
	.venv-oldest/bin/python -m pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal

lint: .venv/.dev ## ruff, mypy and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev ## let ruff format and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-quick: .venv/.bench ## the scoreboard at a glance: two tasks, four scenarios, every method (about 3 minutes)
	$(BIN)/python -m benchmarks quick $(ARGS)

bench: .venv/.bench ## the whole scoreboard with one seed a cell (about 40 minutes on 2 cores)
	$(BIN)/python -m benchmarks run $(ARGS)

bench-full: .venv/.bench ## the scoreboard with all seeds: hours; goes on where it was cut off, writes benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks full $(ARGS)

overhead: .venv/.dev ## measure only what the automations cost in a training step
	$(BIN)/python -m benchmarks.overhead $(ARGS)

notebooks: .venv/.notebooks ## run the lessons in notebooks/ and what they assert (about 2 minutes)
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=120 --timeout=300 -n $(WORKERS) --maxprocesses 2 --quiet -W ignore notebooks

docs: .venv/.dev ## build the documentation into build/docs, warnings as errors
	$(BIN)/python -m pytest --quiet --doctest-modules docs/extensions
	$(BIN)/python -m sphinx --fresh-env --fail-on-warning --keep-going --quiet -d build/doctrees docs build/docs

clean: ## remove .venv, caches and everything that was built
	rm -rf .venv .venv-oldest build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Debian's Python comes without ensurepip, and then `venv` fails: the pip outside puts one into the environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv || { $(PYTHON) -m venv --clear --without-pip .venv && $(PYTHON) -m pip --python $(BIN)/python install pip; }

.venv/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[demo]'
	@touch $@

# Dependency groups are known to pip from 25.1 on. What the demo needs is part of it, so its stamp is set as well.
.venv/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[demo,report]' --group dev
	@touch .venv/.demo $@

.venv/.notebooks: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[demo,report]' --group notebooks
	@touch .venv/.demo $@

# timm's torchvision would have to match the build of torch, and clipping by timm does not need it.
.venv/.bench: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[demo,report]' --group bench
	$(BIN)/python -m pip install --no-deps 'timm>=1.0.31'
	@touch .venv/.demo $@

.venv-oldest/.test: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv --clear .venv-oldest
	.venv-oldest/bin/python -m pip install --upgrade 'pip>=25.1'
	.venv-oldest/bin/python -m pip install --constraint constraints-oldest.txt --editable '.[demo,report]' --group test
	@touch $@
