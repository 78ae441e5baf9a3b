# Needs python 3.11+ with venv (Debian: apt-get install python3-venv), make and bash. No environment has to be active.
PY   := .venv/bin/python
ARGS ?= -p seed 3
OUT  ?= out.ipynb
DOCS := $(PY) -m pip install -q -c constraints.txt --no-build-isolation -e '.[docs]' || $(PY) -m pip install -q --no-build-isolation -e '.[docs]'  # the tested versions, else compatible ones

.PHONY: help setup run jobs bench test soak golden mutants lab lab-check docs check format types sync readme wheel clean distclean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo 'make run ARGS="-p seed 4 -p max_samples 100" OUT=out4.ipynb    other parameters'
	@echo 'make test NB=nbs/00_core.ipynb FLAGS=slow WORKERS=2            some notebooks, slow cells too'
	@echo 'make bench BENCH=--stored                                      the table that is kept, nothing run'
	@echo 'make setup PYTHON=python3.12 TORCH_ARGS="--index-url URL"      another python, another torch build'

setup: ## virtual environment in .venv, pinned packages, embedded model (done once)
	@PYTHON='$(PYTHON)' TORCH_ARGS='$(TORCH_ARGS)' bash tools/setup.sh

run: setup ## the main job: execute nbs/run_exp.ipynb into out.ipynb
	.venv/bin/papermill nbs/run_exp.ipynb '$(OUT)' $(ARGS)

jobs: setup ## every job file at reduced size, in one process (JOBS='pas/*' for some); minutes
	HF_HUB_OFFLINE=$${HF_HUB_OFFLINE-1} $(PY) -m steer_nb.dev.reduced $(JOBS)

bench: setup ## every bench by itself, one table of ratios in data/bench.json; an hour or two, on a quiet machine
	$(PY) tools/bench.py $(BENCH)

test: $(if $(NB),setup,check) ## the checks, then every notebook through nbdev_test
	$(PY) tools/run_tests.py $(if $(NB),--path '$(NB)') $(if $(FLAGS),--flags '$(FLAGS)') $(if $(WORKERS),--n_workers $(WORKERS))

soak: setup ## many small runs under kills, a full disk, damaged files (RUNS=200 SEED=0 MINUTES=60)
	$(PY) tools/soak.py $(if $(RUNS),--runs '$(RUNS)') $(if $(SEED),--seed '$(SEED)') $(if $(MINUTES),--minutes '$(MINUTES)')

golden: setup ## are the tables those of another commit? BASE=<commit>; QUICK=1 for a subset, PARTS="sweep 'job/pas/*'" for some; ten minutes each
	$(PY) tools/golden.py against '$(or $(BASE),HEAD)' $(if $(QUICK),--quick) $(if $(PARTS),--parts $(PARTS)) $(if $(EXPECT),--expect $(EXPECT))

mutants: setup ## small mistakes put into the library, one at a time: which go unnoticed? (N=150 SEED=0 MODULES="models evals" RESULTS=m.json); half an hour or more
	$(PY) tools/mutants.py $(if $(N),--n '$(N)') $(if $(SEED),--seed '$(SEED)') $(if $(MODULES),--modules $(MODULES)) $(if $(WORKERS),--workers '$(WORKERS)') $(if $(RESULTS),--out '$(RESULTS)')

check: setup ## only the checks of `make test`: layout of code, lint, structure, types, generated files; two minutes, most of them for the types
	$(PY) tools/checks.py
	$(PY) -m ruff format --check --quiet nbs tools || { echo 'PROBLEM the files above are not formatted: make format'; exit 1; }
	$(PY) -m ruff check --quiet nbs tools
	$(PY) tools/check_structure.py
	$(PY) tools/sync_check.py
	$(PY) tools/check_types.py

format: setup ## one layout of code: ruff format over notebooks and tools
	$(PY) -m ruff format nbs tools

types: setup ## type errors against what is allowed (SHOW=evals.sweeps prints a module's; UPDATE=1 writes down that there are fewer)
	$(PY) tools/check_types.py $(if $(SHOW),--show '$(SHOW)') $(if $(UPDATE),--update)

sync: setup ## write the generated files: modules, cleaned notebooks, README
	$(PY) tools/sync_check.py --fix

readme: setup ## README.md from nbs/index.ipynb
	$(PY) tools/readme.py

lab: setup ## JupyterLab on nbs/
	$(PY) -m jupyterlab nbs

docs: setup ## the documentation site in _docs/, from stored outputs; open _docs/index.html (no server, no network)
	@$(PY) -c 'import material, mkdocs' 2>/dev/null || $(DOCS)
	$(PY) tools/docs.py

lab-check: setup ## run a tutorial in JupyterLab in a headless Chromium and look at its charts; skipped where there is no Chromium
	@$(PY) -c 'import playwright' 2>/dev/null || $(DOCS)
	$(PY) tools/check_lab.py $(NB)

wheel: setup ## build a wheel and see that it works elsewhere, with its data
	$(PY) tools/check_wheel.py

clean: ## remove build leftovers and caches (keeps .venv, runs/ and out*.ipynb)
	rm -rf build dist *.egg-info _proc _docs nbs/_quarto.yml nbs/nbdev.yml nbs/sidebar.yml
	find nbs steer_nb tools -name __pycache__ -o -name .ipynb_checkpoints | while read -r d; do rm -rf "$$d"; done

distclean: clean ## clean, and remove .venv
	rm -rf .venv
