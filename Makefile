# Pressroom's targets; each does all the setup that it needs.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MODEL := smollm2-135m-instruct
SENTIMENT_MODELS := minilm finance-sentiment
NEEDS_TEXT := About 700 MB of packages (several GB where pip takes a CUDA build of torch) and 93 MB (articles) to 175 MB (sentiment) of models are downloaded once.

.DEFAULT_GOAL := help
.PHONY: help setup lock model sentiment-models recommendation-models demo demo-prompt demo-sentiment demo-recommendations check test \
	bench bench-sentiment bench-recommendations bench-orchestration clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## make .venv with every dependency, pinned by constraints.txt

$(INSTALLED): pyproject.toml constraints.txt install.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pressroom needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	@echo "$(NEEDS_TEXT)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python install.py
	@touch $@

model: $(INSTALLED) ## install the default model (93 MB) into the home folder
	@$(BIN)/pressroom models add $(MODEL)

sentiment-models: model ## install the classifier and the embedding model too (82 MB)
	@for name in $(SENTIMENT_MODELS); do $(BIN)/pressroom models add $$name || exit 1; done

recommendation-models: model ## install the embedding model too (82 MB)
	@$(BIN)/pressroom models add minilm

demo: model ## write two dozen articles with a real model; they end up in out/
	@$(BIN)/pressroom run articles examples/articles/briefs.csv --out out

demo-prompt: model ## a table of products through a template and a schema, in out-prompt/; again: nothing is generated
	@$(BIN)/pressroom run prompt examples/prompts/products.csv --template examples/prompts/product-fields.jinja \
		--schema examples/prompts/product-fields.json --set max_tokens=400 --set repetition_penalty=1.1 \
		--keep demo --out out-prompt

demo-sentiment: sentiment-models ## months of invented news through a monitor: alerts and reports in out-sentiment/
	@$(BIN)/python -m examples.sentiment.demo --out out-sentiment

demo-recommendations: recommendation-models ## an invented shop: lists, words, a page in out-recommendations/; again: only changes
	@$(BIN)/python -m examples.recommendations.shop --out out-recommendations/shop
	@$(BIN)/pressroom run recommendations --settings out-recommendations/shop/refresh.toml \
		--catalogue out-recommendations/shop/catalogue.csv \
		--interactions out-recommendations/shop/interactions.csv --out out-recommendations

lock: $(INSTALLED) ## write requirements.lock: what the image installs, with the hash of each file
	@{ echo '# What the image installs, each file by its hash: `make lock` writes it anew from constraints.txt.'; \
		echo hatchling | $(BIN)/uv pip compile --quiet pyproject.toml - --extra engine --constraint constraints.txt \
		--python-version 3.11 --generate-hashes --no-header --no-annotate; } > requirements.lock

check: $(INSTALLED) ## ruff, mypy, import-linter and the unit tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit jobs db storage workers pressroom kinds --doctest-modules --ignore db/migrations

test: check sentiment-models ## everything: check, integration and acceptance tests
	$(BIN)/pytest tests/integration tests/acceptance

bench: model ## measure against the bare engine and plain transformers; results in benchmarks/results/
	$(BIN)/python -m benchmarks.engine
	$(BIN)/python -m benchmarks.structured
	$(BIN)/python -m benchmarks.pipeline

bench-sentiment: sentiment-models ## the classifier against one document at a time, the whole path, the alerts
	$(BIN)/python -m benchmarks.encoder
	$(BIN)/python -m benchmarks.sentiment
	$(BIN)/python -m benchmarks.alerts

bench-recommendations: recommendation-models ## ranking on public data and at scale, facts of 500 texts, what a refresh costs
	$(BIN)/python -m pip download --quiet --no-deps --dest build/recbole recbole==1.2.1
	$(BIN)/python -m benchmarks.ranking --recbole build/recbole/recbole-1.2.1-py3-none-any.whl
	$(BIN)/python -m benchmarks.text_facts
	$(BIN)/python -m benchmarks.refresh

bench-orchestration: model ## jobs a second without a model, a million lines in and out, a long run, plain Celery
	$(BIN)/python -m benchmarks.orchestration

clean: ## remove the virtual environment and build leftovers; models and data stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
