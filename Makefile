# make book    run the preset's notebooks and build the book into _build/html
# make fetch SET=cifar10    get a public set of images, TO=folder, FROM=mirror; without SET, say what there is
# make test    everything that guards the code
# make benchmarks    every measurement for a CPU, one after the other; nothing else should be running meanwhile
# All make their own environment in .venv first; python3, pip and make are all they need.

PRESET ?= pocket
DATA   ?=
# 0 for the published book alone, without training anything: make book TRAIN=0
TRAIN  ?= 1
# a number of seeds, in place of the preset's own: make book SEEDS=3
SEEDS  ?=
# more options for `python -m dclib book`, such as ARGS="--jobs 1 --set train.epochs=2"
ARGS   ?=
SET    ?=
TO     ?=
FROM   ?=
PYTHON ?= python3
VENV   ?= .venv

BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BENCHMARKS := kmeans training_step pipeline probes whitening_memory growth clustering_growth zip_reading duplicates explore metadata_import phases plan_accuracy neighbours page_network kill_test malformed
CODE   := dclib tests notebooks $(wildcard benchmarks)

# one process a core, and a file's tests, or a notebook's cells, in one of them; more than four compete for memory
SIDE_BY_SIDE := --numprocesses=auto --maxprocesses=4 --dist=loadfile

# whatever environment the caller has active must not be seen
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME CONDA_PREFIX UV_PROJECT_ENVIRONMENT
# a page would start by compiling torch's thousand modules, each time
unexport PYTHONDONTWRITEBYTECODE

.PHONY: book fetch test benchmarks format lock clean help

book: $(STAMP)
	@$(BIN)/python -m dclib book --preset "$(PRESET)" $(if $(DATA),--data "$(DATA)") $(if $(SEEDS),--seeds "$(SEEDS)") $(if $(filter 0,$(TRAIN)),--no-train) $(ARGS)

fetch: $(STAMP)
	@$(BIN)/python -m dclib fetch $(SET) $(if $(TO),--to "$(TO)") $(if $(FROM),--from "$(FROM)")

test: $(STAMP)
	@echo "== ruff check"
	@$(BIN)/ruff check $(CODE)
	@echo "== ruff format"
	@$(BIN)/ruff format --check $(CODE)
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== pytest"
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE)
	@echo "== the smoke preset, by the runner"
	@$(BIN)/python -m dclib run --preset smoke
	@echo "== nbval: the notebooks by themselves, as their defaults are"
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) --nbval-lax --nbval-current-env --nbval-cell-timeout 600 notebooks/*.ipynb

benchmarks: $(STAMP)
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

format: $(STAMP)
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

# torch is held at the newest version this code was tested with
lock: $(STAMP)
	@printf 'torch==2.14.1\ntorchvision==0.29.1\n' > $(VENV)/tested.txt
	@echo "# Every package of the book and the tests, at the version they were made with. Made by: make lock" \
		> $(VENV)/requirements.lock
	@$(BIN)/uv pip compile --universal --python-version 3.11 pyproject.toml --extra book --extra slurm --extra video --extra heif --extra map --extra export --extra tensorboard --extra test \
		--constraints $(VENV)/tested.txt --upgrade --no-annotate --no-header --quiet >> $(VENV)/requirements.lock
	@mv $(VENV)/requirements.lock requirements.lock

clean:
	rm -rf _build book/stages book/_generated .pytest_cache .mypy_cache .ruff_cache

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

# uv installs in a third of the time; where it cannot be had, pip does the same
$(STAMP): pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "need Python 3.11 or newer, got $$($(BIN)/python --version); remove $(VENV) and run: make PYTHON=python3.12" >&2; exit 1; }
	@echo "installing into $(VENV)"
	@if $(BIN)/python -m pip install --quiet uv && \
		$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock -e ".[book,slurm,video,heif,map,export,tensorboard,test]"; then :; else \
		echo "uv could not install; trying pip"; \
		$(BIN)/python -m pip install --quiet -r requirements.lock -e ".[book,slurm,video,heif,map,export,tensorboard,test]"; fi
	@touch $@
