# make picture   a picture from the bundled model          make test    all tests
# make check     ruff, pyright, import-linter              make map     docs/map.md from the modules' own first lines
# On Linux the public index gives PyTorch with CUDA (gigabytes). For the CPU build:
#   make picture TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
TORCH_INDEX ?=
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PROMPT ?= a neon cat in space

.PHONY: picture test check map clean
picture: $(VENV)/.base
	$(BIN)/fromnoise generate "$(PROMPT)" --seed 1 --out out

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist worksteal

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python docs/make_map.py --check

map: $(VENV)/.base
	$(BIN)/python docs/make_map.py

$(VENV)/.base: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) -e .
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) -e '.[test]'
	$(PIP) --no-deps k-diffusion compel  # peers for the tests; they would bring torchvision, and an older transformers
	touch $@

$(VENV)/.check: $(VENV)/.test
	$(PIP) -e '.[check]'
	touch $@

clean:
	rm -rf $(VENV) out
