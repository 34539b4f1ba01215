# Everything people run. `make` alone lists it. Needs Python 3.11 or newer, make and a package index.
# Variables are set after the target's name (make sweep BUDGET=cpu), never taken from the environment.

KNOWN := SWEEP BUDGET SET DATA LABEL GROUP MINUTES TURNS MIRROR RUNS REPORTS STUDY JOBS EXECUTOR RETRY STALE RERUN HTML OUT PYTHON
# BUDGET=smoke make sweep would be another study than it says. A make that was called by this one has them from it.
OVERLOOKED := $(strip $(if $(MAKELEVEL:0=),,$(foreach name,$(filter-out PYTHON OUT,$(KNOWN)),$(if $(filter environment,$(origin $(name))),$(if $($(name)),$(name))))))
$(if $(OVERLOOKED),$(warning $(OVERLOOKED) of the environment is not used; variables go after the target: make sweep BUDGET=smoke))

#: SWEEP        the study file
SWEEP = sweep.yaml
#: BUDGET       size of the study: smoke, cpu, night, gpu or another of its file's; cpu or gpu by the device found if not given
BUDGET =
#: SET          keys of the study file and their values, whatever it says: SET="protocol.epochs=10 search.trials=4"
SET =
#: DATA         folder of your own images, instead of the study's task
DATA =
#: LABEL        what tables and W&B call these images
LABEL =
#: GROUP        which of your images belong together, so that no split parts them: folder, csv:FILE:COLUMN or name:PATTERN
GROUP =
#: MINUTES      time that a probe may take, roughly; of gpu-check 8 if not given, and not exceeded
MINUTES = 10
#: TURNS        how things in a probe's images are turned: any, small, quarter or none; tried out if not given
TURNS =
#: MIRROR       whether a mirrored image is of the same class: yes or no; tried out if not given
MIRROR =
#: RUNS         the ledger: folder of finished runs
RUNS = runs
#: REPORTS      folder for tables and figures
REPORTS = reports
#: STUDY        study of the ledger that report, tables and the like are about; the latest if not given; for report also several: STUDY="A B"
STUDY =
#: JOBS         runs side by side; as many as pay if not given
JOBS =
#: EXECUTOR     where runs are made: local, this machine; ray, a Ray cluster (docs/cluster.md)
EXECUTOR = local
#: RETRY        1 makes runs again that failed or diverged
RETRY =
#: STALE        keep or again: whether finished runs count that were made before code changed that they depend on; keep if not given
STALE =
#: RERUN        runs that verify makes again, drawn at random, and compares byte for byte; none if not given
RERUN =
#: HTML         page that watch writes as well, for a browser, such as reports/live.html
HTML =
#: OUT          file that bench writes; bench-accuracy.json or gpu-check.json for those two if not given
OUT = bench.json
#: PYTHON       interpreter that .venv is made with; gpu-check uses one that is given, and no .venv
PYTHON = python3

export SWEEP BUDGET SET DATA LABEL GROUP MINUTES TURNS MIRROR RUNS REPORTS STUDY JOBS EXECUTOR RETRY STALE RERUN HTML OUT
# Another project's settings would have Python find its modules, drop our texts, or install elsewhere than in .venv.
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONOPTIMIZE PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT

# Not MAKEOVERRIDES, in which the values stand as well: SET's have = in them.
UNKNOWN := $(filter-out $(KNOWN),$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name))))
$(if $(filter RAY_ADDRESS,$(UNKNOWN)),$(error RAY_ADDRESS goes first: RAY_ADDRESS=HOST:PORT make sweep EXECUTOR=ray))
# Where no Python can look for the nearest one, all that are known are named.
NEAREST = $(shell $(PYTHON) -EB -c 'import sys; from ledger.nearest_names import nearest; print(nearest(sys.argv[1], sys.argv[2:]))' \
	'$(subst ','\'',$(1))' $(KNOWN) 2>/dev/null)
$(if $(UNKNOWN),$(error unknown variable$(foreach name,$(UNKNOWN), $(name) ($(or $(call NEAREST,$(name)),known: $(KNOWN))))))

# An unset variable of the shell, as in DATA=$IMAGES, asks for something else than nothing.
EMPTY := $(strip $(foreach name,$(KNOWN),$(if $(filter command line,$(origin $(name))),$(if $(strip $($(name))),,$(name)=))))
$(if $(EMPTY),$(error $(EMPTY) has no value; give it one, or leave it out))
$(if $(filter-out 1 yes true 0 no false,$(RETRY)),$(error RETRY=$(RETRY) is neither 1 nor 0))

VENV := .venv
INSTALLED := $(VENV)/.installed
PY := $(VENV)/bin/python
# What was cut short may have left half a package, and the interpreter may have gone: then .venv is made anew.
CLEAR := $(shell ls $(VENV)/.*.unfinished >/dev/null 2>&1 || { [ -e $(INSTALLED) ] && ! [ -x $(PY) ]; } && echo --clear)
EXPERIMENTS := $(PY) -m experiments
# The shell puts the values in, quoted: the name of a folder may hold spaces and quotes.
STUDY_OPTIONS := --sweep "$$SWEEP" $${BUDGET:+--budget "$$BUDGET"} $${SET:+--set "$$SET"} \
	$${DATA:+--data "$$DATA"} $${LABEL:+--label "$$LABEL"} $${GROUP:+--group "$$GROUP"} --runs "$$RUNS"
STUDY_OPTION := $${STUDY:+--study "$$STUDY"}
JOBS_OPTION := $${JOBS:+--jobs "$$JOBS"}
WHERE_OPTIONS := $(JOBS_OPTION) --executor "$$EXECUTOR"
# Ray is large: only who asks for a cluster gets it. So it is with what only developers need.
FOR_SWEEP := $(INSTALLED) $(if $(filter ray,$(EXECUTOR)),$(VENV)/.cluster)
given = $(filter command line,$(origin $(1)))
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo 'make: PYTHON=$(PYTHON) is no Python 3.11 or newer; name one that is: make PYTHON=python3.12' >&2; exit 2; }
FOR_TESTS := $(INSTALLED) $(VENV)/.cluster $(VENV)/.docs $(VENV)/.notebook $(VENV)/.timm

.DEFAULT_GOAL := help
.PHONY: anew help setup sweep plan look status watch tables report probe dashboard sync wandb-report optuna-dashboard verify verify-docs test docs test-docs test-long faults lint format bench bench-accuracy gpu-check clean

help:
	@echo 'make TARGET [VARIABLE=value ...]'; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' Makefile
	@echo; awk '/^#: / { sub("#: ", "  "); name = $$1; sub(" *[A-Z]+ +", ""); printf "  %-18s %s\n", name, $$0 }' Makefile

setup: $(INSTALLED)  ## create .venv and install into it; every other target does so by itself

$(INSTALLED): pyproject.toml constraints.txt $(if $(CLEAR),anew)
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(CLEAR) $(VENV)
	@touch $@.unfinished
	$(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev,dashboard]'
	@mv $@.unfinished $@

$(VENV)/.cluster $(VENV)/.docs $(VENV)/.notebook $(VENV)/.timm: $(VENV)/.%: $(INSTALLED)
	@touch $@.unfinished
	$(PY) -m pip install --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@mv $@.unfinished $@

sweep: $(FOR_SWEEP)  ## carry out the study: tune every variant, train the winners again, write the tables
	@$(EXPERIMENTS) sweep $(STUDY_OPTIONS) $(WHERE_OPTIONS) --reports "$$REPORTS" $(if $(filter 1 yes true,$(RETRY)),--retry_failed) $${STALE:+--stale "$$STALE"}

plan: $(FOR_SWEEP)  ## say what sweep would run and how long it would take
	@$(EXPERIMENTS) plan $(STUDY_OPTIONS) $(WHERE_OPTIONS)

look: $(INSTALLED)  ## draw some images of each class: as they are, as networks see them, under the study's poses and policies
	@$(EXPERIMENTS) look $(STUDY_OPTIONS) --reports "$$REPORTS"

status: $(INSTALLED)  ## say how far the ledger's studies are
	@$(EXPERIMENTS) status --runs "$$RUNS"

watch: $(INSTALLED)  ## look at what is being trained, in another shell: epochs, accuracy beside earlier runs, time left
	@$(EXPERIMENTS) watch --runs "$$RUNS" $(STUDY_OPTION) $${HTML:+--html "$$HTML"}

tables: $(INSTALLED)  ## write the tables of a study again: the ledger's newest one, or STUDY
	@$(EXPERIMENTS) tables --runs "$$RUNS" --reports "$$REPORTS" $(STUDY_OPTION)

report: $(INSTALLED)  ## write the report of the ledger's newest study, or of STUDY, with tables and figures: one HTML file; several side by side
	@$(EXPERIMENTS) report --runs "$$RUNS" --reports "$$REPORTS" $(STUDY_OPTION)

probe: $(INSTALLED)  ## would augmentation or a spatial transformer help on your images? make probe DATA=path/to/images; minutes
	@[ -n "$$DATA" ] || { echo 'make: probe needs images; name their folder: make probe DATA=path/to/images' >&2; exit 2; }
	@$(EXPERIMENTS) probe "$$DATA" --minutes "$$MINUTES" $${TURNS:+--turns "$$TURNS"} $${MIRROR:+--mirror "$$MIRROR"} \
		$${SET:+--set "$$SET"} \
		--label "$$LABEL" $${GROUP:+--group "$$GROUP"} --runs "$$RUNS" --reports "$$REPORTS" $(JOBS_OPTION)

dashboard: $(INSTALLED)  ## look at the runs in W&B's own dashboard, in the terminal, or in trackio's, in a browser; no account needed
	@$(EXPERIMENTS) dashboard --runs "$$RUNS"

sync: $(INSTALLED)  ## upload the runs that W&B has not got yet; needs a W&B account
	@$(EXPERIMENTS) sync --runs "$$RUNS"

wandb-report: $(INSTALLED)  ## build a workspace and a report in the W&B project; needs a W&B account
	@$(EXPERIMENTS) wandb-report --runs "$$RUNS" $(STUDY_OPTION)

optuna-dashboard: $(INSTALLED)  ## look at the tuning of the newest study, or of STUDY, in a browser
	@case "$$RUNS" in '~/'*) RUNS="$$HOME/$${RUNS#??}";; esac; \
	journal=$$(ls -t "$$RUNS"/studies/$${STUDY:-*}/optuna.log 2>/dev/null | head -n 1); \
	if [ -z "$$journal" ]; then echo "make: $$RUNS holds no study $${STUDY:-yet; make sweep makes one}" >&2; exit 2; fi; \
	echo 'Notes and tags that you make here are lost when the study is swept again: its journal is then made anew.'; \
	$(PY) $(VENV)/bin/optuna-dashboard "$$journal"

verify: $(INSTALLED)  ## read every file of the ledger: has anything been damaged, lost or edited?
	@$(EXPERIMENTS) verify "$$RUNS" $${RERUN:+--rerun "$$RERUN" $${DATA:+--data "$$DATA"} $${GROUP:+--group "$$GROUP"} $(JOBS_OPTION)}

verify-docs: $(INSTALLED)  ## compute the numbers of README and docs again from the committed results
	@$(EXPERIMENTS) verify-docs

test: $(FOR_TESTS)  ## run the tests, but those of test-docs and test-long; six minutes on two cores
	$(PY) -m pytest

docs: $(VENV)/.docs  ## build the documentation as a site that needs no network: site/index.html
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

test-docs: $(FOR_TESTS)  ## follow every page of the documentation, run its code, check the site; minutes
	$(PY) -m pytest -m documentation

test-long: $(FOR_TESTS)  ## the tests that take long: whole studies, kills, benchmarks, a cluster that loses a host; minutes
	$(PY) -m pytest -m long

faults: $(FOR_TESTS)  ## the tests of faults and attacks at their whole size, about an hour; docs/reliability.md has the figures
	$(PY) -m pytest -m "" --whole --timeout=7200 --figures $(VENV)/faults.json tests/faults tests/attacks

lint: $(FOR_TESTS)  ## check style, format and types, as CI does
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

format: $(INSTALLED)  ## put imports and layout of all files in order
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: $(INSTALLED)  ## measure the speed of training on this machine, beside the usual way
	@$(PY) -m benchmarks speed --out "$$OUT"

# OUT has bench's value in any case: only one that was given is meant for this.
bench-accuracy: $(INSTALLED)  ## measure the time to 80 % on images of your own, beside the usual way: DATA=path/to/cifar
	@[ -n "$$DATA" ] || { echo 'make: bench-accuracy needs images; name their folder: make bench-accuracy DATA=path/to/cifar' >&2; exit 2; }
	@$(PY) -m benchmarks accuracy "$$DATA" $(if $(call given,OUT),--out "$$OUT")

# An interpreter that is named brings its own torch, where none could be installed: it is taken as it is.
gpu-check: $(if $(call given,PYTHON),,$(FOR_TESTS))  ## on a CUDA GPU: its tests, precision, speed, time to 80 and 94 % (DATA=CIFAR-10); 8 minutes
	@$(if $(call given,PYTHON),$(CHECK_PYTHON))
	@$(if $(call given,PYTHON),$(PYTHON),$(PY)) -m benchmarks.gpu_check $${DATA:+--data "$$DATA"} \
		$(if $(call given,OUT),--out "$$OUT") $(if $(call given,MINUTES),--minutes "$$MINUTES")

clean:  ## delete .venv and caches; the ledger and the reports stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info build site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
