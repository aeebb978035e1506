# Everything runs in a virtual environment of its own; a second run installs nothing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types bench picture catalog fuzz clean

help: ## say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: $(VENV)/.installed ## install jvp into .venv and run the example
	@echo '→ jvp inspect "torch.outer(x,x)" --x 1,2,3,4'
	@$(BIN)/jvp inspect "torch.outer(x,x)" --x 1,2,3,4

test: $(VENV)/.dev ## install what the tests need and run them
	@echo '→ running the tests'
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest

check: lint types test ## ruff, mypy, the layers and all tests

lint: $(VENV)/.dev ## ruff
	@echo '→ ruff'
	@$(BIN)/ruff check .

types: $(VENV)/.dev ## mypy
	@echo '→ mypy'
	@$(BIN)/mypy

picture: $(VENV)/.dev ## the README's picture, from the real output
	@echo '→ docs/images/inspect.svg'
	@$(BIN)/python docs/make_picture.py

catalog: $(VENV)/.dev ## the list of functions that an expression may call, from torch's own registry
	@echo '→ src/jvpcli/language/catalog.json'
	@$(BIN)/python -m jvpcli.language.build_catalog

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

# The environment.  A sentence says what is missing, if something is.
$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "jvp needs Python 3.10 or newer, and there is no $(PYTHON): install it, or name one with make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "jvp needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another with make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: its venv or pip is missing (on Debian: apt install python3-venv)"; exit 1; }
	@echo '→ making a virtual environment in $(VENV)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { echo "there is no pip in $(VENV): install pip for $(PYTHON), then make clean and try again"; exit 1; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo '→ installing jvp (torch is large: this takes a minute)'
	@$(PIP) -e . || { echo "pip could not install jvp: see its message above"; exit 1; }
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@echo '→ installing what the tests need'
	@$(PIP) -e '.[dev]' || { echo "pip could not install what the tests need: see its message above"; exit 1; }
	@touch $@
