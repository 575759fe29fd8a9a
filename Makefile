# What can be done here. Everything installs what it lacks by itself, asks nothing, and is safe to repeat.

.DEFAULT_GOAL := help
.PHONY: help up down ceph ceph-down test stress sim-long check proto bench upcall throughput bench-trash install uninstall install-missing install-all

PYTHON := .venv/bin/python
PLAYGROUND := PYTHONPATH=tests:bench $(PYTHON) -m loligo_lab.playground
# What `make test` runs: folders, files, or pytest's options.
TESTS ?=
# What else `make bench` compares with: label=directory or, mounted twice, label=directory:second, separated by blanks.
PEERS ?=
ROUNDS ?= 3
# More for `make bench-trash`: --large, sizes and rows; OPTIONS=--help tells.
OPTIONS ?=
# How long `make stress` takes, and what happens in it.
DURATION ?= 300
SEED ?= $(shell date +%s)

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: install-missing ## a volume on local disk, mounted at ./mnt
	@$(PLAYGROUND) up

down: install-missing ## unmount ./mnt, and wait until everything is stored
	@$(PLAYGROUND) down

ceph: install-all ## a small Ceph cluster and a metadata server on 127.0.0.1, a volume of theirs at ./mnt-ceph
	@$(PLAYGROUND) ceph

ceph-down: install-missing ## unmount ./mnt-ceph, stop server and cluster; their data stays in ./.loligo
	@$(PLAYGROUND) ceph-down

test: install-all ## all tests, those on a real Ceph included; TESTS="tests/store -k journal" for some
	@.venv/bin/pytest $(or $(TESTS),-n 2 --dist loadfile)

stress: install-all ## 8 clients on Ceph while server, connections, clients, an OSD are killed; DURATION=300 seconds, SEED=
	@LOLIGO_STRESS_S=$(DURATION) LOLIGO_STRESS_SEED=$(SEED) .venv/bin/pytest -s tests/chaos/test_server_stress.py

sim-long: install-all ## 2,400,000 steps of simulated clients with leases, lost connections, deaths, restarts; SEED=
	@LOLIGO_SIM_STEPS=60000 LOLIGO_SIM_SEED=$(SEED) .venv/bin/pytest -n 2 tests/unit/test_leases_model.py

check: install-all ## lint, format, types, import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

proto: install-all ## generate the code of the wire format anew, after a change of loligo.proto
	cd common && ../$(PYTHON) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. loligo_wire/v1/loligo.proto

bench: install-all ## side by side with ext4, ceph-fuse and PEERS="label=/dir:/dir2 …"; results in bench/results/
	@$(PLAYGROUND) bench --rounds $(ROUNDS) $(PEERS)

upcall: install-all ## what one call costs, by operation and transport, with the file system and without
	@$(PLAYGROUND) upcall --rounds $(ROUNDS)

throughput: install-all ## what one metadata server does for 1 to 8 API clients, and the CPU it costs on both sides
	@$(PLAYGROUND) throughput

bench-trash: install-all ## what the trash costs and saves; OPTIONS="--large --restored-files 100000 --beside-files 100000"
	@$(PLAYGROUND) trash $(OPTIONS)

install: install-missing ## as root: `loligo` and `osdtune` for all users, and `mount -t loligo`
	@tools/link-commands

uninstall: ## as root: take those links away
	@tools/link-commands --remove

install-missing:
	@tools/install-missing mount

install-all:
	@tools/install-missing all
