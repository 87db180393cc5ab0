# make picture   a picture from the bundled model          make test    all tests
# make check     ruff, pyright, import-linter              make map     docs/map.md from the modules' own first lines
# make serve     the image server, on this machine
# make studio    a page to create pictures, on this machine
# make site      the course for the browser                make test-site   its tests (the last ones need Chromium)
# On Linux the public index gives PyTorch with CUDA (gigabytes). For the CPU build:
#   make picture TORCH_INDEX=https://download.pytorch.org/whl/cpu
PYTHON ?= python3
TORCH_INDEX ?=
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PROMPT ?= a neon cat in space

STUDIO_PATH := PATH="$(abspath $(BIN)):$$PATH"  # node and npm of the environment come first
NODE_MODULES := studio/node_modules/.package-lock.json
MODEL := studio/generated/model/manifest.json

.PHONY: picture serve studio test check map site test-site clean
picture: $(VENV)/.base
	$(BIN)/fromnoise generate "$(PROMPT)" --seed 1 --out out

serve: $(VENV)/.serve
	$(BIN)/fromnoise serve

studio: site
	$(BIN)/fromnoise studio --no-browser

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist worksteal

check: $(VENV)/.check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/python docs/make_map.py --check
	$(BIN)/python docs/make_schedulers.py --check
	$(BIN)/python docs/make_endpoints.py --check
	$(BIN)/hadolint deploy/Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml

map: $(VENV)/.base
	$(BIN)/python docs/make_map.py

site: $(VENV)/.site $(NODE_MODULES) $(MODEL)
	$(BIN)/python studio/build/write_content.py
	$(BIN)/python studio/build/write_python.py
	$(BIN)/python studio/build/write_runtimes.py
	$(STUDIO_PATH) $(BIN)/python studio/build/write_api.py
	cd studio && $(STUDIO_PATH) npx vite build --logLevel info

test-site: site
	$(BIN)/python studio/tests/write_golden.py
	cd studio && $(STUDIO_PATH) npx svelte-check --tsconfig ./tsconfig.json --fail-on-warnings
	cd studio && $(STUDIO_PATH) npx vitest run tests/unit
	cd studio && $(STUDIO_PATH) npx vitest run tests/browser

$(VENV)/.base: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) -e .
	touch $@

$(VENV)/.test: $(VENV)/.base
	$(PIP) -e '.[test]'
	$(PIP) --no-deps k-diffusion compel lycoris-lora einops toml  # peers for the tests; they would bring torchvision, and an older transformers
	touch $@

$(VENV)/.serve: $(VENV)/.base
	$(PIP) -e '.[serve]'
	touch $@

$(VENV)/.check: $(VENV)/.test
	$(PIP) -e '.[check]'
	touch $@

$(VENV)/.site: $(VENV)/.base
	$(PIP) -e '.[site]'
	touch $@

$(NODE_MODULES): studio/package-lock.json | $(VENV)/.site
	cd studio && $(STUDIO_PATH) npm install --no-save --no-fund --no-audit
	touch $@

$(MODEL): studio/build/export_model.py $(wildcard src/fromnoise/checkpoints/onnx/*.py src/fromnoise/weights/*/*.safetensors) | $(VENV)/.site
	$(BIN)/python studio/build/export_model.py

clean:
	rm -rf $(VENV) out studio/node_modules studio/generated src/fromnoise/learn/site
