# `make demo` and `make test` each work alone in a fresh clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -c requirements/constraints.txt
# More threads than cores make MMAction2 many times slower on a CPU.
export OMP_NUM_THREADS ?= 2

.PHONY: setup lint test test-all test-fast test-configs test-versions gpu-report long-run demo \
	tutorial release-check clean

setup: $(VENV)/.ready

# Exact versions come from the constraints. mim needs pip's old vendored
# pkg_resources, so pip itself is pinned first.
$(VENV)/.ready: setup.py pyproject.toml Makefile requirements/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip setuptools
	$(PIP) torch
	$(PIP) --no-build-isolation -e '.[mmcv-lite,mim,cpu,video,tests,lint]'
	$(BIN)/python -m aia_mmaction.doctor --fix
	touch $@

# What pre-commit runs, too. `ruff format .` and `ruff check --fix .` mend most.
lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell

# PyPI's torchvision is built for CUDA: with PyTorch for CPUs its import fails
# where it registers operators, which no image backbone needs. So the tests have
# it, without that registration, in a folder of its own.
IMAGES := $(CURDIR)/$(VENV)/image_libraries

$(IMAGES)/.ready: requirements/image_libraries.txt $(VENV)/.ready
	rm -rf $(IMAGES)
	$(PIP) --no-deps --target $(IMAGES) -r $<
	echo > $(IMAGES)/torchvision/_meta_registrations.py
	touch $@

# A PyTorch for CPUs brings no Triton. Its interpreter runs the kernels without
# a GPU; in a folder of its own, so that PyTorch stays as users have it.
TRITON := $(CURDIR)/$(VENV)/triton

$(TRITON)/.ready: requirements/triton.txt $(VENV)/.ready
	mkdir -p $(TRITON)
	$(BIN)/python -c 'import triton' 2> /dev/null || \
		$(PIP) --no-deps --target $(TRITON) -r $<
	touch $@

# A process per core with one thread each, since few tests could use more.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal
IMAGE_TESTS := tests/recognizers/test_image_backbones.py
TRITON_TESTS := tests/ops/test_triton.py tests/ops/test_self_check.py \
	tests/benchmarking/test_gpu_counts.py
PYTORCH_ALONE := $(addprefix --ignore=,$(IMAGE_TESTS) $(TRITON_TESTS))
test test-all test-fast: export OMP_NUM_THREADS = 1

# Combinations that are for a release
test: LEFT_OUT = and not exhaustive

# Three runs, since what is imported first decides what PyTorch finds.
test test-all: setup $(IMAGES)/.ready $(TRITON)/.ready
	$(PYTEST) $(PYTORCH_ALONE) -m 'not image_libraries $(LEFT_OUT)'
	PYTHONPATH=$(IMAGES) $(PYTEST) -m 'image_libraries $(LEFT_OUT)' $(IMAGE_TESTS) tests/backbones \
		tests/test_mmaction2_configs.py
	PYTHONPATH=$(TRITON) TRITON_INTERPRET=1 $(PYTEST) -m 'not image_libraries $(LEFT_OUT)' \
		$(TRITON_TESTS)

# What one runs while editing.
test-fast: setup
	$(PYTEST) $(PYTORCH_ALONE) -m 'not slow and not exhaustive and not image_libraries'

# Every config of MMAction2 whose network can have attention; 5 minutes.
test-configs: export OMP_NUM_THREADS = 1
test-configs: setup $(IMAGES)/.ready
	PYTHONPATH=$(IMAGES) $(BIN)/python -m tests.mmaction2_configs

# The wheel beside other versions of Python, PyTorch and OpenMMLab, each in an
# environment of several gigabytes that is deleted again. Goes on where it was
# stopped; ROWS="py3.8-torch2.1.0-mmengine0.10.4" runs some again.
test-versions: setup
	$(BIN)/python tests/versions.py $(ROWS)

# Tests and measures everything on a GPU, and writes docs/benchmarks/gpu_*. With
# PYTHON of an environment that has no OpenMMLab, the layers alone.
gpu-report:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) tools/gpu_report.py

# 2,000 iterations of the demo's model, and what they hold.
long-run: setup
	ITERATIONS=2040 $(BIN)/python -m pytest -s tests/test_long_run.py

# Renders, trains and tests everything; SEEDS="0 1 2" repeats it.
SEEDS ?= 0
demo: setup
	$(BIN)/python tools/demo.py --seeds $(SEEDS)

# Builds what would be uploaded, and uses it beside the oldest and newest versions.
release-check: setup
	$(BIN)/python tests/release.py

# Runs the notebook's cells and keeps what they show.
tutorial: setup
	$(BIN)/jupyter execute --inplace --timeout=-1 docs/tutorial.ipynb

clean:
	rm -rf $(VENV) .versions build *.egg-info
