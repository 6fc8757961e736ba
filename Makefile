# The verbs. `make` alone prints them.
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help env sources openclipart repro repro-cold pretrain tiny release \
	bench-licenses bench-train bench-sd2 reference documents test lint clean

help:  ## print these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: .venv/ready  ## create .venv with the pinned packages

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet uv
	UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip install --quiet \
		--python $(BIN)/python -c constraints.txt -e ".[dev]"
	touch $@

sources: env  ## fetch the pinned picture sets and weights, verified
	$(BIN)/python -m commoncanvas fetch

openclipart: env  ## fetch Debian's Open Clip Art, for the scale `full`
	$(BIN)/python -m commoncanvas fetch openclipart

repro: sources  ## run every stage that changed, then build the pages
	$(BIN)/dvc repro
	@echo "read reports/html/index.html"

repro-cold: sources  ## the same, with nothing taken from earlier runs
	rm -rf .checkpoints .finished
	$(BIN)/dvc repro --force --no-run-cache
	@echo "read reports/html/index.html"

pretrain: sources  ## train VAE, captioner and scorer anew (two hours of one core)
	$(BIN)/python -m commoncanvas run 00_pretrain
	$(BIN)/dvc commit --force 00_pretrain

tiny: sources  ## run every stage at the smallest scale, without DVC
	@set -e; for stage in 01_licenses 02_captions 03_latents 04_train 05_evaluate \
		06_figures 07_speed; do \
		case $$stage in 04_*|05_*) variants=$$($(BIN)/python -c \
			"import yaml; print(*yaml.safe_load(open('params.yaml'))['experiment'])");; \
			*) variants=none;; esac; \
		for variant in $$variants; do \
			echo "$$stage tiny $$variant"; \
			case $$variant in none) option=;; *) option="--variant $$variant";; esac; \
			$(BIN)/python -m commoncanvas run $$stage --scale tiny $$option; \
		done; \
	done

ROWS ?= 20000000
bench-licenses: env  ## licence split beside pandas and polars (ROWS=100000000 for all)
	UV_FIND_LINKS="$${PIP_FIND_LINKS:-}" $(BIN)/uv pip install --quiet \
		--python $(BIN)/python -c constraints.txt -e ".[dev,bench]"
	$(BIN)/python benchmarks/licenses.py --rows $(ROWS) \
		--json results/bench_licenses.json

SCALE ?= mini
bench-train: sources  ## time each speed-up of training again (SCALE=mini)
	$(BIN)/dvc repro --force --single-item 07_speed@$(SCALE)
	cp data/$(SCALE)/07_speed/metrics.json results/bench_train_$(SCALE).json

bench-sd2: env  ## the same at Stable Diffusion 2's size, on made-up works: needs a GPU
	$(BIN)/python benchmarks/training.py --scale paper \
		--json results/bench_train_sd2.json

VARIANT ?= cc_emoji
release: SCALE = full
release: env  ## put a trained variant into results/model (SCALE=full)
	$(BIN)/python -m commoncanvas release --scale $(SCALE) --variant $(VARIANT)

reference: SCALE = full
reference: env  ## keep a finished run's results in results/ (SCALE=full)
	$(BIN)/python -m commoncanvas keep --scale $(SCALE)
	$(BIN)/python -m commoncanvas marks --scale $(SCALE)

documents: env  ## write docs/CLAIMS.md and the README's figures from their files
	$(BIN)/python -m commoncanvas documents

lint: env  ## ruff and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell README.md docs commoncanvas notebooks tests profiles params.yaml

test: sources lint  ## everything that needs no accelerator and no network
	$(BIN)/python -m pytest -m "not gpu and not network"

clean:  ## remove what `make repro` writes; environment, sources and cache stay
	rm -rf .checkpoints .finished data reports/html .pytest_cache .ruff_cache .hypothesis
	find reports/executed -name '*.ipynb' ! -name '00_pretrain.ipynb' -delete
