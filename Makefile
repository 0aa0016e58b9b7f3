# Every target makes .venv if it is missing and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: run test check bench clean

run: $(STAMP)
	$(BIN)/gradwitness run --out out

test: check

check: $(STAMP)
	scripts/check $(BIN)

bench: $(STAMP)
	$(BIN)/python benchmarks/soundness.py
	$(BIN)/python benchmarks/cost.py
	$(BIN)/python benchmarks/default_network.py

$(STAMP): pyproject.toml constraints-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later \
	is needed, not " + sys.version.split()[0] + ": name one, as in make run PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints-dev.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) out
