# One way to do each thing. `make` alone lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The toolchain of the machine; a cache folder is used, never needed.
CARGO ?= cargo

.PHONY: help
help: ## List what can be done
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Which crates may be used, from where and under which licences (deny.toml); built once into the cache folder where it is missing.
DENY_VERSION := 0.20.2
DENY = CARGO=$(CARGO) .ci/tool cargo-deny $(DENY_VERSION)

.PHONY: check
check: ## Format, clippy, engine tests, crates and bill of materials: under two minutes, before each commit
	$(CARGO) fmt --all --check
	@# The engine alone first: in a workspace build other members switch on features that it must not have.
	$(CARGO) clippy --quiet -p engine --all-targets -- -D warnings
	$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings
	$(CARGO) test --quiet -p engine
	@# Without the network once all crates are there. Advisories are somebody else's and change by the hour: `make advisories`.
	$(CARGO) fetch --quiet --locked
	deny=$$($(DENY)); "$$deny" --offline --locked check --hide-inclusion-graph bans licenses sources
	@# What is linked into the binary, and nothing else, with its origin and its licence.
	@# Of the packages of which `make test` chooses: of others Cargo would compile most once more, with other features.
	$(CARGO) test --quiet -p latency-operator -p lab --test sbom

.PHONY: advisories
advisories: ## Ask for known vulnerabilities and yanked crates: needs the network, for the database of advisories
	deny=$$($(DENY)); "$$deny" --locked check advisories

.PHONY: sim
sim: ## Simulate the operator in a world with faults, and judge it (SEED=1 HOURS=200: ten seconds)
	$(CARGO) run --quiet --release -p sim -- --seed $(or $(SEED),1) --hours $(or $(HOURS),200)

.PHONY: sim-planted
sim-planted: ## Plant a bug, simulate until it is caught, and the next one: some eight minutes (SEED=1 HOURS=1000 at most for each)
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
	@# After what it says it makes come some 70 seconds: what is our own is compiled, servers are started, and one incident.
	@.ci/plan $(if $(filter real,$(NODE)),demo-real,demo) "$(TARGET_DIR)" 70
	@# Together, so that what both use is compiled once; without optimisation, which would take minutes more.
	$(if $(filter real,$(NODE)),@$(MAKE) --no-print-directory image,$(CARGO) build --bins -p latency-operator -p lab)
	@exec "$(TARGET_DIR)/debug/lab" demo --node $(or $(NODE),kwok) --operator "$(TARGET_DIR)/debug/latency-operator" \
		--image "$(TARGET_DIR)/image/latency-operator.tar"

# The laboratory; whoever has built it names the program.
LAB ?= $(CARGO) run --quiet -p lab --

# For which machine the image is, by the name that images have for it: this one, amd64 or arm64.
HERE := $(patsubst aarch64,arm64,$(patsubst x86_64,amd64,$(shell uname -m)))
ARCH ?= $(HERE)
# What Cargo calls a static binary for it.
STATIC := $(patsubst arm64,aarch64,$(patsubst amd64,x86_64,$(ARCH)))-unknown-linux-musl
CC_STATIC := CC_$(subst -,_,$(STATIC))
# The only C code is ring's, and needs nothing of a C library: any compiler for the machine will do. Of this machine there is one; clang
# is one for every machine, and the linker for others comes with Rust.
ifeq ($(ARCH),$(HERE))
STATIC_ENV = $(CC_STATIC)=$${CC:-cc}
else
STATIC_ENV = $(CC_STATIC)=$${$(CC_STATIC):-clang} CARGO_TARGET_$(shell echo $(STATIC) | tr a-z- A-Z_)_LINKER=rust-lld
endif
# The archive of another machine's has its name.
IMAGE = $(TARGET_DIR)/image/latency-operator$(if $(filter $(HERE),$(ARCH)),,-$(ARCH))
TARGET_DIR = $(shell $(CARGO) metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')

.PHONY: image
image: ## Build the image without Docker, as an archive with its bill of materials, and weigh it (ARCH=arm64: needs clang)
	@case $(ARCH) in $(HERE)|amd64|arm64) ;; *) echo "ARCH=$(ARCH): images are built for amd64 and arm64" >&2; exit 1 ;; esac
	@[ $(ARCH) = $(HERE) ] || [ -n "$${$(CC_STATIC):-}" ] || command -v clang > /dev/null || \
		{ echo "ARCH=$(ARCH) needs clang, or $(CC_STATIC), for the C code of one package: apt-get install clang" >&2; exit 1; }
	@rustup target list --installed | grep -qx $(STATIC) || rustup target add $(STATIC)
	@mkdir -p $(TARGET_DIR)/image
	@# What Cargo says that it has built is what the bill of materials is compared with.
	$(STATIC_ENV) $(CARGO) build --release --locked --target $(STATIC) --package latency-operator --bin latency-operator \
		--message-format json-render-diagnostics > $(TARGET_DIR)/image/built-$(ARCH).json
	@$(LAB) image --binary $(TARGET_DIR)/$(STATIC)/release/latency-operator --output $(IMAGE).tar
	@$(LAB) sbom --target $(STATIC) --binary $(TARGET_DIR)/$(STATIC)/release/latency-operator \
		--built $(TARGET_DIR)/image/built-$(ARCH).json --output $(IMAGE).cdx.json

.PHONY: sbom
sbom: ## Write the bill of materials of the binary (CycloneDX) without building it (ARCH=arm64: that of the other)
	@mkdir -p $(TARGET_DIR)/sbom
	@$(LAB) sbom --target $(STATIC) --output $(TARGET_DIR)/sbom/latency-operator-$(ARCH).cdx.json

.PHONY: image-path
image-path:
	@echo $(IMAGE).tar

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
bench: ## Measure against the budgets, on real parts; prints tables and writes JSON (RUNS=30, and what bench-scale does: an hour)
	$(CARGO) bench -p engine --bench tick
	$(CARGO) bench --bench operator
	@$(MAKE) --no-print-directory bench-scale

.PHONY: bench-scale
bench-scale: image ## Of that only how one operator scales, as it is in the image (POLICIES=1,1000,10000 QUIET=300: 40 minutes; OPERATOR=)
	@# Another C library is another allocator: what is measured is what is shipped.
	OPERATOR="$${OPERATOR:-$(TARGET_DIR)/$(STATIC)/release/latency-operator}" $(CARGO) bench --bench scale

MDBOOK_VERSION := 0.5.4

.PHONY: book
book: ## Make a book of docs/ in target/book; builds mdbook into the cache folder where it is missing, some minutes
	@# Links that leave docs/ lead to the files beside the book, which are not part of it.
	@mdbook=$$(CARGO=$(CARGO) .ci/tool mdbook $(MDBOOK_VERSION) --no-default-features --features search); \
	"$$mdbook" build . && \
	find target/book -name '*.html' -exec sed -i -E 's|href="\.\./([^"]*)\.html|href="../../\1.md|g' {} +
