# Two commands for a fresh clone: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Keep freed memory (glibc): page faults are much of what PyTorch waits for on a CPU.
export MALLOC_MMAP_THRESHOLD_ := 4294967296
export MALLOC_TRIM_THRESHOLD_ := 17179869184
export MALLOC_TOP_PAD_ := 134217728

.PHONY: setup demo test test-gpu lint clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

# Goes on training tcmoa_pyramid on made-up pairs for up to two minutes; fuses and scores others, before and after, beside classic methods.
demo: setup
	rm -rf logs/demo
	$(BIN)/python -m fusion.train experiment=demo run_dir=logs/demo/train
	$(BIN)/python -m fusion.evaluate experiment=demo ckpt_path=logs/demo/train/checkpoints/last.ckpt run_dir=logs/demo/result \
		baselines=[tcmoa_pyramid,average,maximum,laplacian] evaluation.metrics=[qabf,qcb,mi,ssim]

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow and not gpu' -q -n 2 --dist loadfile

# On a machine with a CUDA device, meant to take under five minutes; FUSION_TEST_DEVICE=cpu tries the same tests without one. Installs nothing:
# it takes the environment of `make setup`, or the Python that is there.
test-gpu:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m pytest -m "gpu and not slow" -q tests/gpu

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy fusion

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
