PYTHON ?= python3
BIN := .venv/bin
# Modules are compiled when they are first imported, since most of the large packages never are; where the environment
# forbids to keep what was compiled, every start would take 12 seconds longer.
INSTALL := $(BIN)/python -m pip install -q --no-compile
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test test-slow lint docs sabotage

demo: .venv/.train
	$(BIN)/regard run movie-sentiment

test: .venv/.ready
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv/.ready
	$(BIN)/python -m pytest -m slow

lint: .venv/.ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright

docs: .venv/.ready
	$(BIN)/python docs/generate.py && $(BIN)/mkdocs build --strict

sabotage: .venv/.ready
	$(BIN)/python benchmarks/sabotage_ops.py

# torch comes first and alone: an open range would draw in the GPU build and gigabytes with it.
.venv/.train: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) torch==2.13.0
	$(INSTALL) -c constraints.txt -e '.[train]'
	touch $@

.venv/.ready: .venv/.train
	$(INSTALL) -c constraints.txt -e '.[train,dev]'
	touch $@
