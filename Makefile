# Every target sets up what it needs: Python 3.11 or newer, make and a C compiler are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
DEMO_OUT ?= demo-out
SCENES_OUT ?= out/scenes
SHELL := /bin/bash
export TOKENIZERS_PARALLELISM := false

.PHONY: help setup fix check test test-slow full-size test-gpu test-browser test-transformers test-oldest gpu vllm-test wheels chaos crash fuzz soak audit bench demo ablation docs clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "mgtool needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version): make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@echo "installing mgtool into $(VENV) (several GB the first time) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	@echo "installing what the tests need ..."
	@$(PIP) --editable '.[dev,mmdet]'
	@touch $@

setup: $(VENV)/.developing ## create .venv with everything that development needs

demo: $(VENV)/.installed ## scenes that a shipped model sees, and photographs, through all four commands
	@PATH="$(CURDIR)/$(BIN):$$PATH" examples/demo.sh $(DEMO_OUT)

ablation: $(VENV)/.developing ## which part of the model sees what, on example scenes: trains for hours, goes on where it stopped
	@PATH="$(CURDIR)/$(BIN):$$PATH" examples/scenes/train.sh $(SCENES_OUT) parts
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python examples/scenes/ablation.py $(SCENES_OUT)

fix: $(VENV)/.developing ## format, and mend what ruff can mend
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

check: $(VENV)/.developing ## ruff, format, mypy --strict, import order
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache

test: $(VENV)/.developing ## the whole suite but its slow and GPU parts
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

test-slow: $(VENV)/.developing ## tests longer than a minute or large in memory
	@$(BIN)/python -m pytest -m slow

full-size: $(VENV)/.developing ## import and ask a model of published size on this CPU: 26 GB of disk, 11 GB of memory
	@$(BIN)/python tests/speed/full_size.py --out tests/speed/results/full_size.json

test-gpu: $(VENV)/.developing ## tests that need an accelerator
	@$(BIN)/python -m pytest -m gpu

gpu: ## GPU tests and speed scripts, 8 minutes; PYTHON= takes that interpreter's packages, WHEELS= a folder, DEVICE=cpu QUICK=1
	@$(if $(filter command line,$(origin PYTHON)),$(PYTHON),$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))) tests/speed/gpu.py \
	  $(if $(DEVICE),--device $(DEVICE)) $(if $(QUICK),--quick) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(FRESH),--fresh) \
	  $(if $(WHEELS),--wheels $(WHEELS)) $(OPTIONS)

test-browser: $(VENV)/.developing ## the report in headless Chromium (install chromium first)
	@$(BIN)/python -m pytest -m browser

test-transformers: $(VENV)/.developing ## transformers' own tests of models, run on this one: make SOURCE=DIR of its sources
	@$(PIP) parameterized peft
	@MGTOOL_TRANSFORMERS_SOURCE=$(SOURCE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -o addopts=--import-mode=importlib \
	  -o filterwarnings=default tests/model/test_transformers_mixins.py

test-oldest: $(VENV)/.developing ## models, imports, training and answers with the oldest transformers of pyproject.toml
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target build/oldest \
	  "transformers==$$(sed -n 's/.*"transformers>=\([0-9.]*\),.*/\1/p' pyproject.toml).*" 'huggingface-hub<2'
	@PYTHONPATH=$(CURDIR)/build/oldest OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" \
	  tests/model tests/importing tests/training tests/inference

build/vllm/.installed: tests/vllm/requirements.txt tests/vllm/overrides.txt pyproject.toml
	@$(PYTHON) -m venv build/vllm && build/vllm/bin/python -m pip install --quiet --disable-pip-version-check uv
	@echo "installing vLLM into build/vllm (6 GB) ..."
	@build/vllm/bin/uv pip install --quiet --python build/vllm/bin/python --requirements tests/vllm/requirements.txt \
	  --overrides tests/vllm/overrides.txt --editable .
	@touch $@

vllm-test: build/vllm/.installed ## infer --backend vllm, in an environment of its own (6 GB)
	@VLLM_CPU_KVCACHE_SPACE=1 OMP_NUM_THREADS=2 build/vllm/bin/python -m pytest tests/vllm tests/inference/test_backend.py \
	  -o filterwarnings=default -o timeout=1200

wheels: $(VENV)/.developing ## build sdist and wheel; install and use them on every Python that is here, resolve for the others
	@$(PIP) uv
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tests/wheels.py

crash: $(VENV)/.developing ## kill every command at many moments; as root, on full and failing disks, too; QUICK=1 takes under 10 minutes
	@OMP_NUM_THREADS=1 $(BIN)/python tests/reliability/crash.py $(if $(QUICK),--quick)

fuzz: $(VENV)/.developing ## broken files for every reader, 20,000 of each kind (CALLS=N), and 1,000 commands (COMMANDS=N)
	@OMP_NUM_THREADS=1 $(BIN)/python tests/reliability/fuzz.py $(if $(CALLS),--calls $(CALLS))
	@OMP_NUM_THREADS=1 $(BIN)/python tests/reliability/fuzz_commands.py $(if $(COMMANDS),--commands $(COMMANDS))

soak: $(VENV)/.developing ## 100,000 small pictures through all commands (PICTURES=N, QUESTIONS=N of infer and eval): does anything grow?
	@OMP_NUM_THREADS=1 $(BIN)/python tests/reliability/soak.py $(if $(PICTURES),--pictures $(PICTURES)) $(if $(QUESTIONS),--questions $(QUESTIONS))

audit: $(VENV)/.developing ## what is installed (CycloneDX), its known holes where their data can be had, hashes of a release
	@$(BIN)/python tests/reliability/audit.py

chaos: $(VENV)/.developing ## a Ray cluster whose actors, nodes and drivers are killed at random: 20 schedules
	@OMP_NUM_THREADS=1 $(BIN)/python tests/chaos/run.py

bench: $(VENV)/.developing ## speed and size against what a user would use instead, quick sizes
	@for script in tests/speed/*.py; do echo "== $$script"; $(BIN)/python $$script --quick || exit 1; done

docs: $(VENV)/.developing ## check that every command of the README runs
	@$(BIN)/python -m pytest -q tests/test_readme.py

clean: ## remove what the targets made
	@rm -rf $(VENV) build dist $(DEMO_OUT) *.egg-info .pytest_cache .mypy_cache .ruff_cache
