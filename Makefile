# `make` or `make help` lists the targets. Commands run with the project's own .venv, which `make demo` and `make test`
# build from requirements.lock (Linux on x86-64, Python 3.11); elsewhere: python -m venv .venv && .venv/bin/pip install -e ".[dev]"
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
BIN := $(CURDIR)/.venv/bin
export PATH := $(BIN):$(PATH)
# Nothing phones home: DVC's analytics are off in .dvc/config, MLflow's telemetry here and in head3d.tracking.
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true

# On two cores: some tests mostly wait. tests/conftest.py gives each one thread.
PYTEST := python -m pytest --numprocesses 3 --dist worksteal
.PHONY: help setup demo test test-fast test-packages smoke bench ui figures sync lint format lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: .venv/.installed ## make .venv from requirements.lock

.venv/.installed: requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; name one with: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	test -x "$(BIN)/python" || "$(PYTHON)" -m venv .venv
	"$(BIN)/python" -m pip install --quiet --require-hashes --requirement requirements.lock
	"$(BIN)/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

demo: setup ## the whole pipeline at the scale of params.yaml (demo: an hour to an hour and a half on two cores with bfloat16)
	dvc repro
	head3d sync
	@echo "report: $(CURDIR)/reports/index.html"

test: setup lint ## every check: ruff, pyright, pytest, and the smoke scale through both engines
	$(PYTEST) -m "not long"

test-fast: setup ## the tests that take seconds each
	$(PYTEST) -m "not slow"

smoke: setup ## a first look: the whole pipeline tiny, in a copy, ending with the path of its report
	bash workflow/smoke.sh .smoke

bench: setup ## how fast this machine is: ratios measured in one run, kept in reports/bench.csv
	head3d bench

ui: setup ## MLflow's pages on the runs, at http://127.0.0.1:5000
	@case "$$MLFLOW_TRACKING_URI" in \
	  http*) echo "MLFLOW_TRACKING_URI names a server: its pages are at $$MLFLOW_TRACKING_URI" ;; \
	  *) mlflow ui --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" --host 127.0.0.1 ;; \
	esac

figures: setup ## tables, figures and report again, from the models and measures that are there
	dvc repro --force --single-item tables figures report
	head3d sync

sync: setup ## after `dvc repro` or `snakemake`: tell the other engine what has been run
	head3d sync

test-packages: ## what some tests want from Debian: a browser, Slurm, PostgreSQL (as root)
	apt-get update --quiet=2
	DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 --no-install-recommends \
	  chromium chromium-driver munge postgresql slurm-wlm

lint: setup ## format check, ruff and pyright, and whether every test can be collected
	ruff format --check .
	ruff check .
	pyright
	@echo "every test can be collected?"; found=$$(python -m pytest --collect-only --quiet --quiet 2>&1) \
	  || { tail -n 30 <<< "$$found"; exit 1; }

format: setup ## format the code and mend what ruff can
	ruff format .
	ruff check --fix .

lock: setup ## compile requirements.lock from pyproject.toml and requirements.in (minutes)
	python -m pip install --quiet pip-tools
	pip-compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --strip-extras \
	  --allow-unsafe --extra dev --extra cluster --extra server --output-file requirements.lock pyproject.toml requirements.in

clean: ## remove what runs left behind; data, models, results and .venv stay
	rm -rf .smoke .pytest_cache .ruff_cache logs tmp
	find src tests workflow -name __pycache__ -type d -prune -exec rm -rf {} +
