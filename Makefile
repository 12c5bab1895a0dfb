# make demo   own virtual environment, the CPU build, a simulated flight (about a minute)
# make test   the whole test suite with all checkers
# make clean  removes what both have made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
STAMP := $(VENV)/.stamp

.PHONY: demo test clean

demo: $(STAMP)-cpu
	$(BIN)/skyfix demo

test: $(STAMP)-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	MYPYPATH=.typing/tensorrt_10_3 $(BIN)/mypy --cache-dir .mypy_cache/tensorrt_10_3
	$(BIN)/mypy tests
	$(BIN)/mypy benchmarks
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

clean:
	rm -rf $(VENV) demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.hypothesis .import_linter_cache

# Stamps make repeats quick: pip runs again only when pyproject.toml has changed.
$(STAMP)-venv:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(STAMP)-cpu: $(STAMP)-venv pyproject.toml
	$(PIP) install -e ".[cpu]"
	touch $@

$(STAMP)-dev: $(STAMP)-cpu tests/toolchain.txt
	$(PIP) install -e ".[dev]"
	$(PIP) install --no-deps -r tests/toolchain.txt || echo "tests of the GPU parts will be skipped"
	$(PIP) install --no-deps --target $(VENV)/tensorrt_10_3 tensorrt_cu12_bindings==10.3.0 \
		&& $(PIP) install --no-deps --target $(VENV)/tensorrt_11_4 tensorrt_cu13_bindings==11.4.0.106 \
		|| echo "tests against NVIDIA's bindings will be skipped"
	touch $@
