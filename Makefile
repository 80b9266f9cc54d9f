# fdws-template: `make help` lists what can be done here.

.DEFAULT_GOAL := help
.PHONY: help demo new up down ps logs loadtest chaos compare test lint clean requirements install rendered

PYTHON := .venv/bin/python
PROJECT := build/distributed-chat
project = $(MAKE) --no-print-directory -C $(PROJECT) VENV=../venv

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

# Ctrl-C reaches the load test too, which says what it has measured so far; then the stack is stopped, undisturbed.
demo: rendered ## Render to build/, start the stack on this machine, load-test it, print the verdict
	@stop() { trap '' INT TERM HUP; $(project) down; exit $$1; }; \
	trap 'stop 130' INT; trap 'stop 143' TERM; trap 'stop 129' HUP; \
	$(project) up RUNTIME=local || exit $$?; \
	$(project) loadtest; verdict=$$?; \
	echo; echo "The stack is still running, from $(PROJECT): make ps, make logs, and make down to stop it."; \
	exit $$verdict

new: install ## Answer the questions and write a project of your own (INTO=folder, the one above this by default)
	@exec $(PYTHON) -m cookiecutter . --output-dir "$(or $(INTO),..)"

up: rendered ## Render to build/ and start the stack (PORT=8000 WORKERS=3)
	@$(project) up

down: ## Stop the stack; its data stays
	@if [ -d $(PROJECT) ]; then $(project) down; fi

ps: $(PROJECT) ## Show the stack's processes and whether they are ready
	@$(project) ps

logs: $(PROJECT) ## Follow the stack's logs, until Ctrl-C (NAME=chat-1 for one process)
	@$(project) logs

loadtest: $(PROJECT) ## Load the running stack and judge it (USERS=200 ROOMS=20 DURATION=30)
	@$(project) loadtest

chaos: $(PROJECT) ## Break the running stack and count what is lost (SEED=1 FAULTS=kill-worker,... USERS=100 DURATION=10)
	@$(project) chaos

compare: install ## Measure worker and gateway against their peers (CONTENDERS= WORKLOADS= ROUNDS= QUICK=1)
	@exec $(PYTHON) -m loadtests.compare $(if $(CONTENDERS),--contenders "$(CONTENDERS)") \
	    $(if $(WORKLOADS),--workloads "$(WORKLOADS)") $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(QUICK),--quick)

test: lint ## Check the template, then a freshly generated project
	@$(PYTHON) -m pytest
	@rm -rf build/test/distributed-chat
	@$(PYTHON) render.py build/test
	@$(MAKE) --no-print-directory -C build/test/distributed-chat VENV=../venv lint test

lint: install ## Check style, format and types of the template
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy

clean: ## Stop the stack, remove its data, build/ and the caches
	@if [ -d $(PROJECT) ]; then $(project) clean; fi
	@rm -rf build .mypy_cache .pytest_cache .ruff_cache
	@find hooks tests loadtests -name __pycache__ -type d -prune -exec rm -rf {} +

requirements: ## Pin requirements/dev.in again (needs uv)
	@uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-header \
	    --output-file requirements/dev.txt requirements/dev.in

rendered: install
	@$(PYTHON) render.py build

$(PROJECT):
	@echo "There is no project in build/ yet: type make up first." >&2; exit 1

# Installs when the requirements differ from those that the environment was made of, and not because a file is newer.
install: ## Make the virtual environment and install the pinned requirements
	@set -e; \
	wanted="$$(cksum <requirements/dev.txt)"; \
	if [ "$$(cat .venv/installed 2>/dev/null)" != "$$wanted" ] || ! $(PYTHON) -c '' 2>/dev/null; then \
	    echo "Installing the pinned requirements into .venv ..."; \
	    rm -rf .venv; \
	    if command -v uv >/dev/null; then \
	        uv venv --quiet --seed --no-python-downloads --python '>=3.11' .venv 2>/dev/null || \
	            uv venv --quiet --seed --python 3.11 .venv; \
	        uv pip install --quiet --python $(PYTHON) --require-hashes -r requirements/dev.txt; \
	    else \
	        for python in python3 python3.14 python3.13 python3.12 python3.11 none; do \
	            if [ $$python = none ]; then echo "Python 3.11 or newer is needed, and not on the PATH." >&2; exit 1; fi; \
	            if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; \
	        done; \
	        $$python -m venv .venv; \
	        $(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt; \
	    fi; \
	    echo "$$wanted" >.venv/installed; \
	fi
