# Everything runs in a virtual environment of its own; a second run installs nothing.
# PYTHON=/path/to/python3 chooses the Python that the environment is made with.
PYTHON ?=
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c $(CONSTRAINTS)
# The wheels of torch without CUDA; where there is no network, pip's own sources have to do.
CPU_WHEELS ?= https://download.pytorch.org/whl/cpu

# The tests: a process for each core, which takes whole files in their order.
PARALLEL ?= -n auto --dist loadfile --no-loadscope-reorder

# The Python of `make test-oldest`, and the tests that it runs: those that need no operator database and no page.
OLDEST ?= python3.10
CORE ?= $(wildcard tests/test_*.py) tests/answers tests/tracing tests/gradcheck tests/repairs/test_plain_errors.py \
  tests/repairs/test_diagnosis.py $(addprefix tests/language/test_,evaluate.py programs.py derivative_calls.py transforms.py parse.py \
  values.py limits.py) $(addprefix tests/jacobians/test_,structure.py local_rules.py plans.py vmap.py save.py) \
  $(addprefix tests/render/test_,text.py trace_text.py json.py) tests/messages/test_messages.py \
  $(addprefix tests/cli/test_,inspect.py trace.py verdicts.py portable.py batch.py run_calls.py import.py attendant.py)

# How long `make fuzz` goes on.
FUZZ_MINUTES ?= 60

.DEFAULT_GOAL := help
.PHONY: help demo test test-oldest test-core check lint types layers bench bench-nets models bench-cli browser docs picture screenshots catalog fuzz operators clean

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/' | expand -t 12

demo: $(VENV)/.installed ## install jvp into .venv and run the example
	@echo '→ jvp inspect "torch.outer(x,x)" --x 1,2,3,4'
	@$(BIN)/jvp inspect "torch.outer(x,x)" --x 1,2,3,4

test: $(VENV)/.dev browser ## install what the tests need and run them
	@echo '→ running the tests'
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) --durations=20

test-oldest: ## the core of the tests on the oldest versions: OLDEST=/path/to/python3.10, in an environment of its own
	@$(MAKE) --no-print-directory test-core VENV=.venv-oldest PYTHON="$(OLDEST)" CONSTRAINTS=constraints-oldest.txt

test-core: $(VENV)/.dev
	@echo '→ running the core of the tests on $(CONSTRAINTS)'
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL) $(CORE)

browser: ## Chromium for the tests of the pages, from Debian (as root); without it they are skipped
	@sh tools/get_browser.sh

check: lint types layers test ## ruff, mypy, the layers and all tests

lint: $(VENV)/.dev ## ruff
	@echo '→ ruff'
	@$(BIN)/ruff check .

types: $(VENV)/.dev ## mypy
	@echo '→ mypy'
	@$(BIN)/mypy

layers: $(VENV)/.dev ## no import from a lower floor to a higher one
	@echo '→ the layers'
	@$(BIN)/python -m pytest tests/test_layers.py

fuzz: $(VENV)/.dev ## every fuzzer by turns, with new examples, for FUZZ_MINUTES=60
	@echo '→ $(FUZZ_MINUTES) minutes of mutated calls, expressions, programs, command lines, claims and property tests'
	@$(BIN)/python tools/fuzz.py --minutes $(FUZZ_MINUTES)

operators: $(VENV)/.dev ## all small samples of torch's operator database, first and second derivatives; checks and closed forms of each
	@echo '→ the operator database'
	@JVP_OP_DB_SAMPLES=100 OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/language/test_op_db.py tests/language/test_op_db_second.py
	@JVP_OPERATORS=all OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/gradcheck/test_check_operators.py tests/symbolic/test_operators.py

bench: $(VENV)/.dev ## the derivative engine against its peers, under 20 minutes
	@echo '→ benchmarks'
	@$(BIN)/python -m benchmarks.run

bench-nets: $(VENV)/.dev ## whether plans choose well: nets and programs by every way of ours and of torch's
	@echo '→ nets'
	@$(BIN)/python -m benchmarks.nets

models: $(VENV)/.dev ## models as in their papers: what is found, time and memory beside torch's best way
	@echo '→ docs/models.md'
	@$(BIN)/python -m benchmarks.models

bench-cli: $(VENV)/.dev ## how fast the commands start, against importing torch; how many lines a second batch answers
	@echo '→ docs/startup.md'
	@$(BIN)/python -m benchmarks.cli

docs: $(VENV)/.dev ## the command reference, and what the console blocks print
	@echo '→ docs/reference.md and the console blocks'
	@$(BIN)/python tools/write_reference.py
	@$(BIN)/python tools/console_blocks.py README.md docs/*.md

picture: $(VENV)/.dev ## the README's picture, from the real output
	@echo '→ docs/images/inspect.svg'
	@$(BIN)/python docs/make_picture.py

screenshots: $(VENV)/.dev browser ## the pictures of docs/pictures.md, from real pages in Chromium
	@echo '→ docs/images/*-page-*.png'
	@$(BIN)/python tools/screenshots.py

catalog: $(VENV)/.dev ## the list of functions that an expression may call, from torch's own registry
	@echo '→ src/jvpcli/language/catalog.json'
	@$(BIN)/python tools/build_catalog.py

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

# The environment; a stamp is there once a step is done in full.
$(VENV)/.made:
	@sh tools/make_venv.sh $(VENV) "$(PYTHON)"
	@touch $@

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(VENV)/.made
	@echo '→ installing jvp (torch is large: this takes a minute)'
	@$(PIP) --no-deps --no-index torch 2>/dev/null \
	  || $(PIP) --no-deps --retries 1 --timeout 20 --extra-index-url $(CPU_WHEELS) torch || true
	@$(PIP) -e . || { echo "pip could not install jvp: see its message above" >&2; exit 1; }
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo '→ installing what the tests need'
	@$(PIP) -e '.[dev]' || { echo "pip could not install what the tests need: see its message above" >&2; exit 1; }
	@touch $@
