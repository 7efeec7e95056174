# make book    run the preset's notebooks and build the book into _build/html
# make pdf     print the built book into _build/book.pdf, SITE=folder for another one; formulas need a Chromium
# make myst    build the content of the built book's pages with mystmd, which npx gets
# make fetch SET=cifar10    get a public set of images, TO=folder, FROM=mirror; without SET, say what there is
# make published    the published book alone, into _build/published
# make release    that book as one file, and what has changed since the last tag, into _build/release
# make test    what guards the code: style, types, tests, and notebooks that need nothing trained
# make notebooks    every notebook by itself, as its defaults are, after make book PRESET=smoke has trained what they show
# make benchmarks    every measurement for a CPU, one after the other; nothing else should be running meanwhile
# make install    the environment alone
# All make their own environment in .venv first; python3, pip and make are all they need.

PRESET ?= pocket
DATA   ?=
# 0 for the published book alone, without training anything: make book TRAIN=0
TRAIN  ?= 1
# a number of seeds, in place of the preset's own: make book SEEDS=3
SEEDS  ?=
# the built book that make pdf and make myst read
SITE   ?= _build/html
# more options for `python -m dclib book`, such as ARGS="--jobs 1 --set train.epochs=2"
ARGS   ?=
SET    ?=
TO     ?=
FROM   ?=
# a git tag or commit to tell the changes since, in place of the last tag: make release SINCE=v0.1.0
SINCE  ?=
PYTHON ?= python3
VENV   ?= .venv

BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# UV_TORCH_BACKEND=cpu in the environment tells uv to take PyTorch without CUDA: then its libraries are left out too, but
# for those of CUDA 12, which are FAISS's
LOCK   := $(if $(filter cpu,$(UV_TORCH_BACKEND)),$(VENV)/cpu.lock,requirements.lock)
BENCHMARKS := kmeans training_step pipeline probes whitening_memory growth clustering_growth zip_reading duplicates explore metadata_import phases plan_accuracy neighbours page_network kill_test malformed
CODE   := dclib tests notebooks $(wildcard benchmarks)

# one process a core, and a file's tests, or a notebook's cells, in one of them; more than four compete for memory
SIDE_BY_SIDE := --numprocesses=auto --maxprocesses=4 --dist=loadfile

NBVAL := $(BIN)/python -m pytest $(SIDE_BY_SIDE) --nbval-lax --nbval-current-env --nbval-cell-timeout 600

# whatever environment the caller has active must not be seen
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME CONDA_PREFIX UV_PROJECT_ENVIRONMENT
# a page would start by compiling torch's thousand modules, each time
unexport PYTHONDONTWRITEBYTECODE

.PHONY: book pdf myst published release install fetch test notebooks benchmarks format lock clean help

book: $(STAMP)
	@$(BIN)/python -m dclib book --preset="$(PRESET)" $(if $(DATA),--data="$(DATA)") $(if $(SEEDS),--seeds="$(SEEDS)") $(if $(filter 0,$(TRAIN)),--no-train) $(ARGS)

published: $(STAMP)
	@$(BIN)/python -m dclib book --no-train --out _build/published

release: published
	@mkdir -p _build/release
	@$(BIN)/python -m dclib release-notes $(SINCE) > _build/release/notes.md
	@$(BIN)/python -c 'import shutil; shutil.make_archive("_build/release/book", "zip", "_build", "published")'
	@echo "made: _build/release/notes.md _build/release/book.zip"

install: $(STAMP)

pdf: $(STAMP)
	@$(BIN)/python -m dclib pdf --site "$(SITE)" $(ARGS)

myst: $(STAMP)
	@$(BIN)/python -m dclib myst --site "$(SITE)" $(ARGS)

fetch: $(STAMP)
	@$(BIN)/python -m dclib fetch $(SET) $(if $(TO),--to "$(TO)") $(if $(FROM),--from "$(FROM)")

# a thread a process: several processes with several threads each wait for each other's cores most of the time
test: export OMP_NUM_THREADS ?= 1
test: $(STAMP)
	@echo "== ruff check"
	@$(BIN)/ruff check $(CODE)
	@echo "== ruff format"
	@$(BIN)/ruff format --check $(CODE)
	@echo "== mypy"
	@$(BIN)/mypy
	@echo "== pytest"
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) --no-loadscope-reorder
	@echo "== nbval: notebooks that need nothing trained, by themselves, as their defaults are"
	@$(NBVAL) $(wildcard $(foreach number,21 01 02 22,notebooks/$(number)_*.ipynb))

notebooks: $(STAMP)
	@$(NBVAL) notebooks/*.ipynb

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
	@$(BIN)/uv pip compile --universal --python-version 3.11 pyproject.toml --extra book --extra slurm --extra video --extra heif --extra map --extra print --extra export --extra tensorboard --extra test \
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
	@sed -E '/^nvidia-[a-z-]+-cu12=/b; /^(cuda|nvidia)-|^triton=/d' requirements.lock > $(VENV)/cpu.lock
	@if $(BIN)/python -m pip install --quiet uv && \
		$(BIN)/uv pip install --quiet --python $(BIN)/python -r $(LOCK) -e ".[book,slurm,video,heif,map,print,export,tensorboard,test]"; then :; else \
		echo "uv could not install; trying pip"; \
		$(BIN)/python -m pip install --quiet -r $(LOCK) -e ".[book,slurm,video,heif,map,print,export,tensorboard,test]"; fi
	@touch $@
