PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PACKAGES := harness plugins tasks leaderboard
TYPED := build/typed
RESULTS := leaderboard/pocket $(patsubst %/cells,%,$(wildcard leaderboard/submissions/*/cells))
TRUST := --trust leaderboard/trusted-keys

.PHONY: help demo test crash cluster bench lint leaderboard check-leaderboard site docs docs-pages clean

help:
	@echo "make demo               run the benchmark on the embedded model into runs/"
	@echo "make test               run the tests"
	@echo "make bench              our speed and memory beside rivals' (installs them apart, in .bench)"
	@echo "make crash              the demo, killed at 20 seeded moments and continued: the same bytes (15 minutes)"
	@echo "make cluster            the demo on a Ray cluster that loses a worker and a node: the same bytes (10 minutes)"
	@echo "make lint               ruff and mypy"
	@echo "make leaderboard        rebuild leaderboard/board from leaderboard/pocket"
	@echo "make check-leaderboard  fail where leaderboard/board is stale"
	@echo "make site               the committed results as a static site: build/site/index.html"
	@echo "make docs               the documentation as a site: build/docs/index.html"
	@echo "make docs-pages         write again what docs/ says of hooks, commands, settings and columns"
	@echo "make clean              remove what was built (results in runs/ stay)"

# The stamp is written last: an installation that broke off is started again.
$(VENV)/.installed: pyproject.toml constraints.txt
	rm -rf "$(VENV)"
	$(PYTHON) -m venv "$(VENV)"
	$(BIN)/pip install -c constraints.txt torch
	$(BIN)/pip install -c constraints.txt -e ".[test]"
	touch $@

.venv: $(VENV)/.installed

$(VENV)/.lint: $(VENV)/.installed
	$(BIN)/pip install -c constraints.txt -e ".[dev]"
	touch $@

demo: $(VENV)/.installed
	$(BIN)/skillneurons run -o runs

test: $(VENV)/.installed
	$(BIN)/python -m pytest

crash: $(VENV)/.installed
	$(BIN)/python tests/crash_demo.py

cluster: $(VENV)/.installed
	$(BIN)/python tests/cluster_demo.py

# Rivals come without pins, into an environment of their own: nothing else ever needs them.
.bench/.installed: pyproject.toml constraints.txt
	rm -rf .bench
	$(PYTHON) -m venv .bench
	.bench/bin/pip install -c constraints.txt torch
	.bench/bin/pip install -c constraints.txt -e .
	.bench/bin/pip install "torch==$$(.bench/bin/python -c 'import torch; print(torch.__version__.split("+")[0])')" -e ".[bench]"
	touch $@

bench: .bench/.installed
	.bench/bin/python tests/benchmarks/tuning_step.py
	.bench/bin/python tests/benchmarks/attribution_pass.py
	.bench/bin/python tests/benchmarks/null_cost.py
	.bench/bin/python tests/benchmarks/shard_cost.py
	.bench/bin/python tests/benchmarks/board_cost.py
	.bench/bin/python tests/benchmarks/site_cost.py
	.bench/bin/python tests/benchmarks/start_cost.py
	.bench/bin/python tests/benchmarks/rerun_cost.py
	.bench/bin/python tests/benchmarks/estimate_check.py
	.bench/bin/pip install -c constraints.txt -e ".[ray]"
	.bench/bin/python tests/benchmarks/ray_cost.py
	.bench/bin/python tests/benchmarks/large_models.py

# mypy cannot follow the folders that make up the package, so it reads a copy laid out as installed.
lint: $(VENV)/.lint
	$(BIN)/ruff check $(PACKAGES) tests docs
	$(BIN)/ruff format --check $(PACKAGES) tests docs
	rm -rf $(TYPED)
	mkdir -p $(TYPED)
	cp -R harness $(TYPED)/skillneurons
	cp -R plugins tasks leaderboard $(TYPED)/skillneurons/
	cd $(TYPED) && "$(abspath $(BIN))/mypy" --config-file "$(CURDIR)/pyproject.toml" -p skillneurons

leaderboard: $(VENV)/.installed
	$(BIN)/skillneurons leaderboard $(RESULTS) $(TRUST) -o leaderboard/board

check-leaderboard: $(VENV)/.installed
	$(BIN)/skillneurons leaderboard $(RESULTS) $(TRUST) -o leaderboard/board --check

site: $(VENV)/.installed
	$(BIN)/skillneurons leaderboard $(RESULTS) $(TRUST) -o build/site --format html

docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-pages: $(VENV)/.installed
	PYTHONPATH=docs $(BIN)/python -m making

clean:
	rm -rf .venv .bench build dist skillneurons.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(PACKAGES) tests docs -name __pycache__ -type d -prune -exec rm -rf {} +
