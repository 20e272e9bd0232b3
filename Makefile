# Everything a developer or CI runs. `make help` lists it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What `make test` leaves out: tests of a minute and more, those that need a Docker Engine (`make chaos`), and other languages.
MARK ?= not long and not docker and not languages
WORKERS ?= 2
# Tests without processes wait for half of their time: they take one worker more.
UNIT_WORKERS ?= 3

# Tests start a thousand processes of this tree: compiling its modules in each would be a good part of their time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

$(BIN)/ottla-ready: pyproject.toml setup.py deploy/constraints.txt deploy/make-venv
	@deploy/make-venv $(PYTHON) $(VENV) '.[server]'
	@touch $@

$(BIN)/ottla-dev-ready: $(BIN)/ottla-ready
	@deploy/make-venv $(PYTHON) $(VENV) '.[dev]'
	@touch $@

.PHONY: demo
demo: $(BIN)/ottla-ready ## Three nodes, three consumers, 336 776 flights, a kill -9 of each kind, a report
	@$(BIN)/python -m examples.demo

.PHONY: test
test: $(BIN)/ottla-dev-ready ## Every test that needs neither Docker nor more than a minute
	$(BIN)/python -m pytest -n $(UNIT_WORKERS) -m '($(MARK)) and not cluster and not docker'
	@# Clusters of real processes, each module's in one worker; then containers, one test after another, if there are any.
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m '($(MARK)) and cluster and not docker'
	$(BIN)/python -m pytest -m '($(MARK)) and docker' || [ $$? = 5 ]

.PHONY: verify
verify: $(BIN)/ottla-dev-ready ## Format, lint, types, import rules, contract, generated code; changes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	cd proto && $(abspath $(BIN))/buf breaking . --against stable/v1.binpb --path ottla/v1
	$(BIN)/python -m pytest tests/repository

.PHONY: fix
fix: $(BIN)/ottla-dev-ready ## Rewrite what ruff can format and mend, and the generated pages of docs/
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python docs/pages.py

.PHONY: proto
proto: $(BIN)/ottla-dev-ready ## Generate ottla/v1 and ottla/internal/v1 from proto/
	@proto/generate $(BIN) .

.PHONY: kafka
kafka: $(BIN)/ottla-dev-ready ## Generate node/kafka/messages from node/kafka/schema/table.txt
	$(BIN)/python -m node.kafka.schema.generate

.PHONY: up
up: ## Three nodes in containers: Kafka on 127.0.0.1:9092 to 9094, gRPC on 9192 to 9194
	docker compose up -d --build --wait

.PHONY: down
down: ## Stop them; their volumes stay
	docker compose down

.PHONY: chaos
chaos: $(BIN)/ottla-dev-ready ## Containers under load, every kind of fault for 15 minutes; every acknowledged record must be there
	$(BIN)/python -m pytest -m docker tests/chaos

.PHONY: verify-long
verify-long: $(BIN)/ottla-dev-ready ## The same with processes, for 15 minutes; then planted bugs that `ottla verify` must find
	$(BIN)/ottla verify --seconds 900 --rate 1000 --record-bytes 1000 --report verify-report.html
	$(BIN)/python -m pytest -m long -rP tests/cluster/test_verify_planted.py

.PHONY: sim
sim: $(BIN)/ottla-dev-ready ## The quorum and the cluster in simulators: the seeds of `make test`, or one with SEED=n
ifdef SEED
	$(BIN)/python -m tests.sim.raft_sim --seed $(SEED)
	$(BIN)/python -m tests.sim.cluster_sim --seed $(SEED)
	$(BIN)/python -m tests.sim.quorum_sim --seed $(SEED)
else
	$(BIN)/python -m pytest -n $(WORKERS) -m 'not long' tests/sim
endif

.PHONY: secure-rolling
secure-rolling: $(BIN)/ottla-dev-ready ## A cluster under load goes from plain to TLS alone and back, by rolling restarts
	$(BIN)/python -m pytest -m long -rP tests/cluster/test_secure_rolling.py

.PHONY: sim-long
sim-long: $(BIN)/ottla-dev-ready ## New seeds of both for MINUTES=n each (10), side by side
	@$(BIN)/python -m tests.sim.raft_sim --minutes $(or $(MINUTES),10) & raft=$$!; \
	$(BIN)/python -m tests.sim.cluster_sim --minutes $(or $(MINUTES),10); cluster=$$?; \
	wait $$raft && exit $$cluster

.PHONY: quorum
quorum: $(BIN)/ottla-dev-ready ## The metadata quorum as real processes with both cores busy: kills, cuts, start orders (half an hour)
	$(BIN)/python -m pytest -m long -rP tests/cluster/test_quorum.py

.PHONY: grow
grow: $(BIN)/ottla-dev-ready ## Three nodes become five, and three others are left, as real processes under load
	$(BIN)/python -m pytest -m long -rP tests/cluster/test_grow_and_shrink.py

.PHONY: promises
promises: $(BIN)/ottla-dev-ready ## Groups and producers as real processes: kills, freezes, restarts; prints the figures (a quarter of an hour)
	$(BIN)/python -m pytest -m long -rP tests/cluster/test_group_promises.py

.PHONY: hostile
hostile: $(BIN)/ottla-dev-ready ## Clients that mean harm, with five times the absurd calls of `make test`
	OTTLA_FUZZ_CALLS=10000 $(BIN)/python -m pytest -rP --timeout 900 tests/cluster/test_hostile.py

.PHONY: languages
languages: $(BIN)/ottla-dev-ready ## Clients in other languages, made from the stock stubs; skips what is not installed
	OTTLA_WRITE_DOCS=1 $(BIN)/python -m pytest -m languages -rs tests/languages

.PHONY: languages-build
languages-build: $(BIN)/ottla-dev-ready ## Their programs alone, where the sources have changed
	$(BIN)/python -m tests.languages.conformance

.PHONY: peers
peers: $(BIN)/ottla-dev-ready ## The same requests to Apache Kafka (Java, Maven) and to Ottla: the same answers; Kafka's tools (9 minutes)
	$(BIN)/python -m tests.peers.apache_kafka
	$(BIN)/python -m pytest -m long -rs tests/peers

.PHONY: docs
docs: $(BIN)/ottla-dev-ready ## The pages of docs/ as a site, in site/; ends with an error where a link leads nowhere
	@deploy/make-venv $(PYTHON) $(VENV) '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q

.PHONY: release
release: $(BIN)/ottla-dev-ready ## Build the source distribution and the wheel, check them, and try them in fresh environments
	@deploy/make-venv $(PYTHON) $(VENV) '.[release]'
	$(BIN)/python deploy/release.py

.PHONY: bench
bench: $(BIN)/ottla-dev-ready ## Measure beside two ceilings and NATS JetStream; writes docs/benchmarks.md (about 25 minutes)
	@deploy/make-venv $(PYTHON) $(VENV) '.[bench]'
	$(BIN)/python -m bench

.PHONY: bench-forwarding
bench-forwarding: $(BIN)/ottla-dev-ready ## What it costs to know one address only; writes docs/forwarding.md (about 3 minutes)
	$(BIN)/python -m bench.forwarding

.PHONY: bench-storage
bench-storage: $(BIN)/ottla-dev-ready ## Measure the log beside bare system calls; writes docs/benchmarks-storage.md (4 minutes)
	$(BIN)/python -m bench.storage
