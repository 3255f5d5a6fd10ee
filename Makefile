# From a fresh clone, with Python 3.11 or newer and make:
#     make book     build the book, every chapter executed
#     make test     run every test
PYTHON ?= python3
BIN := .venv/bin

# One thread a process: two notebooks run at a time, and results must not depend on the machine's cores.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export PYTHONHASHSEED := 0
# The books' own progress is shown; these only add noise.
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export JUPYTER_PLATFORM_DIRS := 1

.DEFAULT_GOAL := help
.PHONY: help env book test smoke scan lint unit notebooks refresh records links pdf lock clean

help:  ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "make %-10s %s\n", $$1, $$2}'

env:  ## create or update the environment in .venv
	@$(PYTHON) tools/environment.py

book: env  ## execute every chapter at scale "book" and build the HTML book
	@$(BIN)/python -m tools.book build --executed

test: lint unit notebooks  ## run every test: style, library, notebooks against their stored outputs, the book
	@echo "test: all passed"

lint: env  ## check the style of the code and the normal form of the notebooks
	@echo "lint: ruff and the notebooks' normal form"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/python -m tools.notebooks check

unit: env
	@echo "unit: library, repository, notebooks at scale smoke, the book in a browser"
	@$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term

notebooks: env
	@echo "notebooks: every cell is run again, checked cells are compared with their stored output"
	@$(BIN)/python -m pytest -p no:cacheprovider --nbval-lax --nbval-current-env --nbval-cell-timeout=600 \
	    -n 2 --dist loadfile notebooks

smoke: env  ## run every notebook at scale "smoke" (a minute or two)
	@$(BIN)/python -m tools.book execute --scale smoke

SCALE ?= smoke
GRID ?= $(SCALE)
scan: env  ## run a grid of workflow/config.yaml: make scan SCALE=smoke (ARGUMENTS="..." go to Snakemake)
	@$(BIN)/python -m tools.scan $(GRID) $(ARGUMENTS)

refresh: env  ## execute the notebooks in place at scale "book" and normalise them (commit the result)
	@$(BIN)/python -m tools.notebooks refresh

records: env  ## take finished runs from the cache into the package (bithep_lib/records)
	@$(BIN)/python -m bithep_lib.study collect

links: env  ## check the links that lead out of the book (needs the internet)
	@$(BIN)/python -m tools.book links

pdf: env  ## print the book to _build/bithep.pdf (needs Chromium)
	@$(BIN)/python -m tools.book pdf

lock: env  ## write the environment's exact versions to requirements.lock (after a deliberate upgrade)
	@$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/^(torch==[^+]*)\+.*/\1/' > requirements.lock

clean:  ## remove what was built (not the environment)
	rm -rf _build .pytest_cache .ruff_cache .coverage
