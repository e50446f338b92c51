# `make help` lists what there is; `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Keep freed memory (glibc): page faults are much of what PyTorch waits for on a CPU.
export MALLOC_MMAP_THRESHOLD_ := 4294967296
export MALLOC_TRIM_THRESHOLD_ := 17179869184
export MALLOC_TOP_PAD_ := 134217728

.PHONY: help setup demo test test-gpu coverage lint docs wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{ printf "make %-10s %s\n", $$1, $$2 }'

setup: $(VENV)/.ready ## make the environment .venv

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

# Goes on training tcmoa_pyramid on made-up pairs for up to two minutes; fuses and scores others, before and after, beside
# classic methods.
demo: setup ## train for two minutes on made-up pairs, fuse, score: logs/demo/result
	rm -rf logs/demo
	$(BIN)/python -m fusion.train experiment=demo run_dir=logs/demo/train
	$(BIN)/python -m fusion.evaluate experiment=demo ckpt_path=logs/demo/train/checkpoints/last.ckpt run_dir=logs/demo/result \
		baselines=[tcmoa_pyramid,average,maximum,laplacian] evaluation.metrics=[qabf,qcb,mi,ssim]

test: setup ## the tests, without the slow ones and those for a GPU
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow and not gpu' -q -n 2 --dist loadfile

# On a machine with a CUDA device, meant to take under five minutes; FUSION_TEST_DEVICE=cpu tries the same tests without one.
# Installs nothing: it takes the environment of `make setup`, or the Python that is there.
test-gpu: ## the tests for a machine with a CUDA device
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m pytest -m "gpu and not slow" -q tests/gpu

coverage: setup ## the tests, with the lines that none of them runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow and not gpu' -q -n 2 --dist loadfile --cov --cov-report=term

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy fusion

docs: setup ## check the documentation: links, commands, examples
	$(BIN)/python -m pytest -q tests/docs

wheel: setup ## build the package into dist/
	$(BIN)/python -m build --wheel --no-isolation

clean: ## remove the environment and caches
	rm -rf $(VENV) dist .pytest_cache .ruff_cache .mypy_cache
