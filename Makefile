# make demo [COHORT=...]   install into .venv and run the main job end to end
# make test                install, lint, type-check and run the tests (SLOW=1: the slow ones too)
PYTHON ?= python3
VENV := .venv
RETICENT := $(VENV)/bin/reticent
EPSILON ?= 8
DELTA ?= 1e-5
ifeq ($(origin COHORT), undefined)
COHORT := phantom:chest
DELTA := 1e-4
DEMO_OPTIONS := --ledger runs/demo-ledger.sqlite
endif

.PHONY: demo test install
install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

demo: install
	$(RETICENT) train $(COHORT) --epsilon $(EPSILON) --delta $(DELTA) $(DEMO_OPTIONS)

test: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	OMP_NUM_THREADS=1 $(VENV)/bin/pytest -n auto --dist loadfile --cov --cov-report=term $(if $(SLOW),,-m "not slow")
