# `make build`: a virtual environment with pinned versions, then the quickstart for the Jetson.
# `make test`: the same with the development tools, then every check.
PYTHON ?= python3
VENV ?= .venv
TARGET ?= jetson
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: build test check docs clean
.DELETE_ON_ERROR:

build: $(VENV)/installed
	$(VENV)/bin/edgekit build --target $(TARGET)

test: $(VENV)/installed-dev check

check:
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest --numprocesses auto --dist loadfile

# torch comes first and alone: every later package is then resolved against the build of it that is already there.
$(VENV)/installed-torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "edgekit needs Python 3.11, 3.12 or 3.13, and '$(PYTHON)' is not that (or not there). Name one: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	  echo "'$(PYTHON)' has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing torch (once)"
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	@touch $@

$(VENV)/installed: $(VENV)/installed-torch pyproject.toml
	@echo "installing edgekit and what it exports with (once)"
	$(PIP) --editable '.[all]'
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing the development tools (once)"
	$(PIP) --editable '.[all,dev]'
	@touch $@

# Pages that are made: the reference from the schemas, the wrong inputs by trying them.
docs: $(VENV)/installed
	$(VENV)/bin/python -m edgekit.schema.markdown > docs/reference.md
	$(VENV)/bin/python -m tests.errors_page > docs/errors.md

clean:
	rm -rf $(VENV) .edgekit dist build .mypy_cache .ruff_cache .pytest_cache
