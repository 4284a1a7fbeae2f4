# make train: set up, then train on the embedded digits.   make test: set up, then the tests.
# make lint, make docs, make bench: what they say; each sets up first, too.
# make sanitize: fuzz the C++ under AddressSanitizer and UBSan.
# make aarch64: build the C++ for ARM and run its tests there, emulated.
PYTHON ?= python3
PACKAGES ?= torch==2.14.1 torchvision==0.29.1
BIN := .venv/bin
READY := .venv/.ready
CXX_FILES := $(wildcard csrc/*.cpp csrc/*/*.cpp csrc/*/*.h)

.PHONY: train test lint docs bench sanitize aarch64 clean
train: $(READY)
	$(BIN)/python -m ltvr.train --preset digits

# Tests that train in forks apart: in a process that has trained itself, autograd may refuse a fork.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test: $(READY)
	$(PYTEST) -m forks
	$(PYTEST) -m "not forks"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python docs/draw_method.py --check
	$(BIN)/python -m sphinx -W --keep-going -n -q docs docs/_build/html

bench: $(READY)
	$(BIN)/python bench/plan_synthesis.py
	$(BIN)/python bench/afa_throughput.py
	$(BIN)/python bench/afa_throughput.py --train-step --dtype fp32

sanitize: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python csrc/sanitize.py

aarch64: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python csrc/aarch64.py --instead $(INSTEAD)

# torch first: the extension is compiled against the torch that will load it.
$(READY): setup.py pyproject.toml $(CXX_FILES)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q "setuptools>=77" ninja $(foreach each,$(PACKAGES),"$(each)")
	@echo "building the C++ extension: three to five minutes"
	$(BIN)/pip install -q --no-build-isolation -e ".[dev]"
	touch $@

clean:
	rm -rf .venv build docs/_build *.egg-info ltvr/_C*.so
