# One way to do each thing. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The toolchain of the machine; a cache folder is used, never needed.
CARGO ?= cargo

.PHONY: help
help: ## List what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: check
check: ## Format, clippy, engine tests: under two minutes, before each commit
	$(CARGO) fmt --all --check
	@# The engine alone first: in a workspace build other members switch on features that it must not have.
	$(CARGO) clippy --quiet -p engine --all-targets -- -D warnings
	$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings
	$(CARGO) test --quiet -p engine

.PHONY: sim
sim: ## Simulate the operator in a world with faults, and judge it (SEED=1 HOURS=200: ten seconds)
	$(CARGO) run --quiet --release -p sim -- --seed $(or $(SEED),1) --hours $(or $(HOURS),200)

.PHONY: sim-planted
sim-planted: ## Plant a bug, simulate until it is caught, and the next one: five minutes (SEED=1 HOURS=1000 at most for each)
	@# Other flags would throw away what is built; they have a folder of their own.
	RUSTFLAGS="--cfg planted_bugs" CARGO_TARGET_DIR="$${CARGO_TARGET_DIR:-target}/planted" \
		$(CARGO) run --quiet --release -p sim -- --planted --seed $(or $(SEED),1) --hours $(or $(HOURS),1000)
	@# And each script that was written down with a bug brings it about again.
	RUSTFLAGS="--cfg planted_bugs" CARGO_TARGET_DIR="$${CARGO_TARGET_DIR:-target}/planted" $(CARGO) test --quiet --release -p sim

.PHONY: sweep
sweep: ## Kill, freeze and mislead the operator at every request of a full incident, on real parts: an hour (SWEEP_ONLY=cancel)
	SWEEP=full $(CARGO) test -p latency-operator --test sweep -- --nocapture

.PHONY: demo
demo: ## Break a real API and watch the operator heal it: a minute; FAULT=runaway, blocker, idle, saturation or coldcache; COMPARE=1 first without it; KEEP=1 leaves it up; NODE=real (as root) on a real node, from the chart and the image
	@# Together, so that what both use is compiled once; without optimisation, which would take minutes more.
	$(if $(filter real,$(NODE)),@$(MAKE) --no-print-directory image,$(CARGO) build --bins -p latency-operator -p lab)
	@exec "$(TARGET_DIR)/debug/lab" demo --node $(or $(NODE),kwok) --operator "$(TARGET_DIR)/debug/latency-operator" \
		--image "$(TARGET_DIR)/image/latency-operator.tar"

# What Cargo calls a static binary for this machine, and where it is put together as an image.
STATIC := $(shell uname -m)-unknown-linux-musl
TARGET_DIR = $(shell $(CARGO) metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')

.PHONY: image
image: ## Build the image without Docker: the Dockerfile's root file system as an archive, and what it weighs
	@rustup target list --installed | grep -qx $(STATIC) || rustup target add $(STATIC)
	@# The only C code is ring's, and needs nothing of a C library: any compiler will do.
	CC_$(subst -,_,$(STATIC))=$${CC:-cc} \
		$(CARGO) build --release --locked --target $(STATIC) --package latency-operator --bin latency-operator
	@mkdir -p $(TARGET_DIR)/image
	@$(CARGO) run --quiet -p lab -- image --binary $(TARGET_DIR)/$(STATIC)/release/latency-operator \
		--output $(TARGET_DIR)/image/latency-operator.tar

.PHONY: image-path
image-path:
	@echo $(TARGET_DIR)/image/latency-operator.tar

.PHONY: test
test: ## Everything that CI runs, on real parts; installs or builds what is missing into the cache folder
	.ci/test

.PHONY: crds
crds: ## Write crds/ anew from the types, and the chart's copies
	$(CARGO) run --quiet --bin latency-operator -- crds --directory crds
	$(CARGO) run --quiet --bin latency-operator -- crds --directory charts/latency-operator/files/crds

.PHONY: chart
chart: ## Lint and render the chart, and try it on a real API server: helm, promtool, every value, every right
	$(CARGO) test -p latency-operator --test chart

.PHONY: bench
bench: ## Measure against the budgets, on real parts; prints a table and writes JSON (RUNS=30, about 15 minutes)
	$(CARGO) bench -p engine --bench tick
	$(CARGO) bench --bench operator

# Built once, by cargo, where it is not on the machine.
MDBOOK_VERSION := 0.5.4
MDBOOK_ROOT = $${XDG_CACHE_HOME:-$$HOME/.cache}/latency-operator/mdbook-$(MDBOOK_VERSION)

.PHONY: book
book: ## Make a book of docs/ in target/book; builds mdbook into the cache folder where it is missing, some minutes
	@# Links that leave docs/ lead to the files beside the book, which are not part of it.
	@if ! mdbook=$$(command -v mdbook); then \
		mdbook=$(MDBOOK_ROOT)/bin/mdbook; \
		[ -x "$$mdbook" ] || $(CARGO) install --locked --version $(MDBOOK_VERSION) --no-default-features --features search --root "$(MDBOOK_ROOT)" mdbook; \
	fi; \
	"$$mdbook" build . && \
	find target/book -name '*.html' -exec sed -i -E 's|href="\.\./([^"]*)\.html|href="../../\1.md|g' {} +
