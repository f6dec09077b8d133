# Two commands do everything on a fresh machine: `make fit` and `make test`. Each builds .venv when it is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help

.PHONY: help
help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# Quantus (LGPL, for tests only) comes without its requirements: it asks for opencv-python, which would overwrite the
# headless one and needs a display's libraries. The others are in [dev].
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "vidact needs Python 3.11 or newer; give one as PYTHON=/path/to/python3.12"; exit 3; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --editable '.[dev]'
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --no-deps quantus
	touch $@

.PHONY: install
install: $(READY)  ## Build .venv with the pinned versions of constraints.txt

.PHONY: fit
fit: $(READY)  ## Train the embedded default and show what it looks at; more options: make fit ARGS='--config hmdb51 …'
	$(BIN)/python -m vidact fit $(ARGS)

# One thread each: the tests' tensors are small, and threads that wait for each other only cost time.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

.PHONY: test
test: $(READY)  ## Run the fast tests, a few minutes on two cores; no clips and no browser needed
	$(PYTEST) -m 'not slow' $(ARGS)

.PHONY: test-slow
test-slow: $(READY)  ## Run the other tests; VIDACT_HMDB51 and VIDACT_JHMDB name folders of real clips
	$(PYTEST) -m slow $(ARGS)

.PHONY: test-all
test-all: $(READY)  ## Run all tests
	$(PYTEST) $(ARGS)

.PHONY: bench
bench: $(READY)  ## Run the benchmarks, on real clips where VIDACT_HMDB51 names them
	$(BIN)/python -m pytest benchmarks/bench_loading.py benchmarks/bench_attribution.py benchmarks/bench_gradient_form.py \
	  benchmarks/bench_networks.py benchmarks/bench_evaluation.py benchmarks/bench_audit.py benchmarks/bench_synthetic.py benchmarks/bench_training.py $(ARGS)

.PHONY: check
check: $(READY)  ## Run ruff (format and lint), mypy --strict and import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

.PHONY: docs
docs: $(VENV)/.docs_ready  ## Build the documentation into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --nitpicky --quiet --doctree-dir docs/_build/doctrees docs docs/_build/html
	@echo docs/_build/html/index.html

$(VENV)/.docs_ready: $(READY)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

.PHONY: wheel
wheel: $(READY)  ## Build the wheel into dist/
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

.PHONY: clean
clean:  ## Remove .venv, caches and built files; runs/ stays
	rm -rf $(VENV) build dist docs/_build docs/reference/generated *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
