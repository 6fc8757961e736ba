# The verbs. `make` alone prints them. Paths are relative, so that a clone may lie below
# a folder with a space in its name.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m commoncanvas
# uv reads none of pip's settings. What pip finds in its files and variables, such as a
# mirror and its certificate, is handed on, and indexes count alike, as for pip.
PIP = $$($(BIN)/python -m pip config list | \
	sed -n "s/\\\\n/ /g; s/^[a-z:]*\.$(1)='\(.*\)'$$/\1/p" | head -n 1)
INSTALL = @UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$(call PIP,index-url)}" \
	UV_EXTRA_INDEX_URL="$${UV_EXTRA_INDEX_URL:-$(call PIP,extra-index-url)}" \
	UV_FIND_LINKS="$${UV_FIND_LINKS:-$(call PIP,find-links)}" \
	UV_INSECURE_HOST="$${UV_INSECURE_HOST:-$(call PIP,trusted-host)}" \
	UV_INDEX_STRATEGY="$${UV_INDEX_STRATEGY:-unsafe-best-match}" \
	SSL_CERT_FILE="$${SSL_CERT_FILE:-$(call PIP,cert)}" \
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt \
	$$(test -z "$(call PIP,no-index)" || echo --no-index)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help env sources openclipart repro repro-cold pretrain second-captioner tiny \
	release demo bench-licenses bench-train bench-sd2 bench-memory bench-coverage gpu-check \
	reference documents lint types rehearsal hardening check test clean

help:  ## print these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: .venv/ready  ## create .venv with the pinned packages

# The versions are those of requires-python in pyproject.toml. A tree without git (an
# unpacked archive) tells DVC so, in a file that git would ignore.
.venv/ready: pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; (3, 11, 5) <= sys.version_info[:3] < (3, 14) or sys.exit("Python %d.%d.%d was found; 3.11.5 to 3.13 is needed: make env PYTHON=python3.11" % sys.version_info[:3])'
	"$(PYTHON)" -m venv --clear .venv
	$(BIN)/python -m pip install --quiet uv
	$(INSTALL) -e ".[dev]"
	@git rev-parse --git-dir >/dev/null 2>&1 || $(BIN)/dvc config --local core.no_scm true
	touch $@

sources: env  ## fetch the pinned picture sets and weights, verified
	$(RUN) fetch

openclipart: env  ## fetch Debian's Open Clip Art, for the scale `full`
	$(RUN) fetch openclipart

repro: sources  ## run every stage that changed, two at once, then build the pages
	$(if $(SCALE),$(RUN) choose $(SCALE))
	$(RUN) repro
	@echo "read reports/html/index.html"

repro-cold: sources  ## the same, with nothing taken from earlier runs
	rm -rf .checkpoints .finished
	$(RUN) repro --force --no-run-cache
	@echo "read reports/html/index.html"

pretrain: sources  ## train VAE, captioner and scorer anew (two hours of one core)
	$(RUN) run 00_pretrain
	$(BIN)/dvc commit --force 00_pretrain

second-captioner: sources  ## make the captioner of another family (two minutes)
	$(BIN)/python -c "from commoncanvas.pretrain import retrieval; \
		retrieval.write_into_place()"

tiny: sources  ## run every stage at the smallest scale, without DVC
	@set -e; \
	variants=$$($(BIN)/python -c "from commoncanvas.core import paths, settings; \
		print(*settings.load_yaml(paths.ROOT / 'params.yaml')['experiment'])"); \
	for stage in 01_licenses 02_captions 03_latents; do \
		$(RUN) run $$stage --scale tiny; done; \
	for stage in 04_train 05_evaluate; do for variant in $$variants; do \
		$(RUN) run $$stage --scale tiny --variant $$variant; done; done; \
	for stage in 06_figures 07_speed; do $(RUN) run $$stage --scale tiny; done

ROWS ?= 20000000
bench-licenses: env  ## licence split beside pandas and polars (ROWS=100000000 for all)
	$(INSTALL) -e ".[dev,bench]"
	$(BIN)/python benchmarks/licenses.py --rows $(ROWS) \
		--json results/bench_licenses.json

SCALE ?= mini
bench-train: sources  ## time each speed-up of training again (SCALE=mini)
	$(BIN)/dvc repro --force --single-item 07_speed@$(SCALE)
	cp data/$(SCALE)/07_speed/metrics.json results/bench_train_$(SCALE).json

bench-sd2: env  ## the same at Stable Diffusion 2's size, on made-up works: needs a GPU
	$(BIN)/python benchmarks/training.py --scale paper \
		--json results/bench_train_sd2.json

gpu-check: env  ## what only a GPU can decide, in at most 12 minutes of one
	$(BIN)/python -m benchmarks.gpu_check --json results/gpu_check.json

SIZES ?= 2000,20000,200000
bench-memory: sources  ## memory and time of each stage by pictures (SIZES=2000,20000)
	$(BIN)/python -m benchmarks.memory --sizes $(SIZES)

bench-coverage: env  ## how often the intervals hold the truth, on made-up data
	$(BIN)/python -m benchmarks.coverage

VARIANT ?= cc_emoji
release: SCALE = full
release: env  ## put a trained variant into results/model (SCALE=full)
	$(RUN) release --scale $(SCALE) --variant $(VARIANT)

reference: SCALE = full
reference: env  ## keep a finished run's results in results/ (SCALE=full)
	$(RUN) keep --scale $(SCALE)
	$(RUN) marks --scale $(SCALE)

demo: PORT ?= 8000
demo: env  ## draw with the released model on a page of this machine (PORT=8000)
	$(RUN) demo --port $(PORT)

documents: env  ## write the generated documents from their files
	$(RUN) documents

lint: env  ## ruff and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell *.md docs commoncanvas benchmarks notebooks tests profiles params.yaml

types: env  ## mypy
	$(BIN)/mypy

# Two workers fill two cores: the tests hold torch to one thread (tests/conftest.py).
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

rehearsal: sources  ## run the paper's code path on photographs and tiny networks
	$(BIN)/python -m tests.rehearsal --run

hardening: sources  ## try the hostile corpus whole: about three hours of one core
	$(BIN)/python -m tests.hardening --jobs $(WORKERS)

check: sources lint types  ## lint, types and the quick tests, in two minutes
	$(PYTEST) -m "not slow and not gpu and not network"

test: sources lint types  ## everything that needs no accelerator and no network
	$(PYTEST) -m "not gpu and not network"

clean:  ## remove what `make repro` writes; environment, sources and cache stay
	rm -rf .checkpoints .finished data reports/html runs/lanes .pytest_cache .ruff_cache \
		.mypy_cache .hypothesis
	find reports/executed -name '*.ipynb' ! -name '00_pretrain.ipynb' -delete
