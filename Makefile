# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= vidkit-demo

.PHONY: install demo test lint slow full-composite bench clean

install: $(VENV)/.installed

# torch, torchvision and timm agree only as a set, so everything is installed in one go
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

demo: install
	$(BIN)/vidkit build-dataset demo --out $(DEMO)
	$(BIN)/vidkit verify $(DEMO)
	$(BIN)/vidkit inspect $(DEMO) --sheet $(DEMO)-sheet.png

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# minutes long; not part of CI
slow: install
	$(BIN)/python -m pytest -m slow

# 24,927 generated clips of the published sizes; about half an hour and 2 GB on 2 cores
full-composite: install
	$(BIN)/python -m benchmarks.full_composite

bench: install
	$(BIN)/python -m benchmarks.bench_build

clean:
	rm -rf $(VENV) $(DEMO) $(DEMO)-clips $(DEMO)-clips.part $(DEMO)-sheet.png
