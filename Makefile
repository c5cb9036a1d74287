# make demo   environment, data, the four steps on Fashion-MNIST, what the ranking is worth, and a page about it
# make test   environment, and every check
# make docs   environment, and the site in build/site; SITE_RUN=1 runs the tutorials first and writes their outputs
# make docs-links   the same, and whether links to other sites lead somewhere, if there is a network
PYTHON ?= python3
VENV ?= .venv
RUNS ?= runs
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
# Without a GPU the CPU wheel is enough (0.2 GB in place of 3). TORCH_INDEX names the index that has it, where pip's own
# does not; PyTorch's installation page gives its address.
TORCH_INDEX ?=

.PHONY: demo test check docs docs-links environment data postgres clean

demo: environment data
	$(BIN)/supernet run fashion-60k --out $(RUNS)/fashion-60k
	$(BIN)/supernet analyze $(RUNS)/fashion-60k
	$(BIN)/supernet report $(RUNS)/fashion-60k

test: environment postgres check
	$(BIN)/python -m pytest -n 2

check: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror supernet/speed/kernels.c
	$(BIN)/mypy

# Pages depend on the program too, so all of them are read anew (-E).
SPHINX = $(BIN)/python -m sphinx -E -W --keep-going -q -c docs/site

docs: $(VENV)/.docs
	$(if $(SITE_RUN),$(BIN)/python docs/site/execute.py)
	$(SPHINX) docs build/site

docs-links: docs
	@if $(BIN)/python -c 'import socket; socket.create_connection(("github.com", 443), 5)' 2>/dev/null; \
	then $(SPHINX) -b linkcheck docs build/links; \
	else echo "no network: links to other sites are not checked"; fi

$(VENV)/.docs: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[dev,docs]'
	touch $@

environment: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@if command -v nvidia-smi >/dev/null 2>&1; then \
	    $(BIN)/pip install --quiet "$(TORCH)"; \
	else \
	    $(BIN)/pip install --quiet $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) "$(TORCH)+cpu" 2>/dev/null \
	    || { echo "no CPU wheel of $(TORCH) found (set TORCH_INDEX): taking the default one"; \
	         $(BIN)/pip install --quiet "$(TORCH)"; }; \
	fi
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# Fashion-MNIST: Debian's package where that is possible; otherwise the first run downloads it.
data:
	@test -d /usr/share/datasets/fashion-mnist || { \
	    command -v apt-get >/dev/null 2>&1 && test "$$(id -u)" = 0 && \
	    { apt-get install --yes --quiet dataset-fashion-mnist >/dev/null 2>&1 \
	      || { apt-get update --quiet >/dev/null && apt-get install --yes --quiet dataset-fashion-mnist >/dev/null; }; }; } \
	|| echo "Fashion-MNIST will be downloaded"

# PostgreSQL for the test of a shared study, where it can be had; the test says so where it cannot.
postgres:
	@ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null 2>&1 || { \
	    command -v apt-get >/dev/null 2>&1 && test "$$(id -u)" = 0 && \
	    { apt-get install --yes --quiet postgresql >/dev/null 2>&1 \
	      || { apt-get update --quiet >/dev/null && apt-get install --yes --quiet postgresql >/dev/null; }; }; } \
	|| echo "PostgreSQL is not installed: the test of a shared study will be skipped"

clean:
	rm -rf $(VENV)
