# `make run` and `make test` are each enough by themselves on a fresh machine; `make help` lists the rest.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.NOTPARALLEL:
.DEFAULT_GOAL := help

PROFILE ?= local
DATA ?=
SET ?=
PYTEST ?=
ARGS ?=

IOMT := .venv/bin/iomt-ids
RUN_OPTIONS := --profile $(PROFILE) $(if $(DATA),--set data.raw="$(DATA)") $(foreach s,$(SET),--set "$(s)")

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ready ## the whole job: tables, detectors, scores, report  [DATA=folder PROFILE=local|standalone|cluster|gpu SET="key=value ..."]
	@$(IOMT) submit retrain $(RUN_OPTIONS) $(if $(filter standalone,$(PROFILE)),--start-cluster)

.PHONY: test
test: ready-test lint package ## lint, types, import rules, then every test  [PYTEST="options"]
	@mkdir -p out
	.venv/bin/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --durations 25 --junit-xml=out/tests.xml $(PYTEST)

.PHONY: lint
lint: ready-test ## lint, types and import rules only
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

.PHONY: doctor
doctor: ready ## what is wrong with this machine, and the line that mends it
	@$(IOMT) doctor

.PHONY: package
package: ready ## dist/iomt_ids.zip, for spark-submit --py-files
	@$(IOMT) package

.PHONY: wheel
wheel: ready ## dist/iomt_ids-VERSION-py3-none-any.whl
	.venv/bin/python -m pip wheel --quiet --no-deps --no-index --no-build-isolation -w dist .

.PHONY: cluster-up cluster-down
cluster-up: ready ## start Spark standalone on loopback: a master and two workers
	@$(IOMT) cluster up
cluster-down: ## stop it
	@$(IOMT) cluster down

bench-%: ready package ## measure one claim: benchmarks/NAME.py  [ARGS="its arguments"]
	PYTHONPATH=$(CURDIR)/lib:$(CURDIR) PYSPARK_PYTHON=$(CURDIR)/.venv/bin/python .venv/bin/python benchmarks/$*.py $(ON) $(ARGS)

# These two take a folder as `make run` does.
bench-quality: ON = $(if $(DATA),"$(DATA)") $(foreach s,$(SET),--set "$(s)") ## every score, targets, false alarms  [DATA=folder SET="key=value ..."]
bench-ceiling: ON = $(if $(DATA),"$(DATA)") ## learning curves and ablations, which say why scores end where they do  [DATA=folder]

.PHONY: bench-deep
bench-deep: bench-loader bench-single bench-ranks ## networks: how rows reach them, what one rank costs, what a second one is worth

.PHONY: bench-trees
bench-trees: bench-forest bench-boosting bench-scoring ## trees: grown, boosted, scored, against peers  [ARGS="200000,1000000,4000000 PAIRS"]

.PHONY: fault-ingest
fault-ingest: bench-fault_ingest ## kills, two writers, a full disk  [ARGS="kills commits commits_of_stock_delta"]

.PHONY: fault-deep
fault-deep: bench-fault_deep ## deaths of ranks, executors and the driver while a network learns  [ARGS="deaths seed"]

.PHONY: fault-trees
fault-trees: bench-fault_trees ## kills of tasks, executors and the driver while trees grow  [ARGS="kills seed"]

.PHONY: fuzz-ingest
fuzz-ingest: ready-test ## 10,000 odd CSV files against a second parser
	.venv/bin/python -m pytest tests/ingest/test_files.py --hypothesis-profile long --hypothesis-show-statistics

.PHONY: airflow-env
airflow-env: ## .venv-airflow, in which the DAG can be loaded
	@scripts/set_up.sh airflow

.PHONY: xgboost
xgboost: ready ## what models.gradient_boosted.engine=xgboost needs, into .venv
	.venv/bin/python -m pip install --quiet --require-hashes --no-deps -r requirements/xgboost.lock

.PHONY: lock
lock: ready-test ## compile requirements/*.lock again (needs uv)
	for name in build runtime dev airflow xgboost; do \
	  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    requirements/$$name.in --output-file requirements/$$name.lock; \
	done

.PHONY: ready ready-test
ready:
	@scripts/set_up.sh run
ready-test:
	@scripts/set_up.sh test

.PHONY: clean
clean: ## remove what was built and what runs have written; the environments stay
	-@[ ! -x $(IOMT) ] || $(IOMT) cluster down
	rm -rf build dist out spark-warehouse metastore_db derby.log lib/*.egg-info .*_cache
