# The commands a user types. `make` alone lists them.
PYTHON ?= python3.11
SCALE ?= smoke
CORES ?= all
BIN := .venv/bin
# The environment of this project, whatever is active in the shell. Only paper scale loads from the
# hub; everything else must work, and is run, without network.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH" HF_HUB_OFFLINE=$(if $(filter paper,$(SCALE)),0,1)

.PHONY: help setup reproduce figures publish report bench test test-slow lint lock

help:
	@echo 'make setup       .venv with the exact packages of requirements.lock'
	@echo 'make reproduce   run the DAG (SCALE=smoke, CORES=all): work/SCALE/findings.html'
	@echo 'make figures     redraw tables and figures from the records in results/SCALE'
	@echo 'make publish     copy records, tables and figures of work/SCALE to results/SCALE'
	@echo 'make report      how work/SCALE was made: Snakemake'\''s report of its jobs'
	@echo 'make bench       time and memory of the losses, as tables'
	@echo 'make test        the test suite; make test-slow the long ones'
	@echo 'make lint        ruff, snakefmt, snakemake --lint'
	@echo 'make lock        requirements.lock and environment.yml anew from pyproject.toml'

setup: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

reproduce: setup
	$(RUN) snakemake --quiet rules host --cores $(CORES) --config scale=$(SCALE) -- all
	@$(MAKE) --no-print-directory report
	@echo
	@echo 'Findings: work/$(SCALE)/findings.html    How they were made: work/$(SCALE)/report.html'
	@echo 'Figures: work/$(SCALE)/figures/    Tables: work/$(SCALE)/tables/'

report: setup
	$(RUN) snakemake --quiet --cores 1 --config scale=$(SCALE) --report work/$(SCALE)/report.html -- all

figures: setup
	$(RUN) snakemake --quiet rules host --workflow-profile profiles/figures --cores $(CORES) \
		--config scale=$(SCALE) root=results/$(SCALE) -- tables figures findings
	@echo 'Findings: results/$(SCALE)/findings.html'
	@echo 'Figures: results/$(SCALE)/figures/    Tables: results/$(SCALE)/tables/'

publish: setup
	$(RUN) tad publish --scale $(SCALE) $(if $(ALLOW_DIRTY),--allow-dirty)

bench: setup
	$(RUN) python benchmarks/losses.py suite

# One thread a worker: two workers of two threads each wait for one another on two cores.
test: setup
	$(RUN) OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile -m 'not slow'

test-slow: setup
	$(RUN) OMP_NUM_THREADS=1 pytest -m slow

lint: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint

lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet '.[suite,dev]'
	.venv-lock/bin/python tools/lock.py
	rm -rf .venv-lock
