# One way to do each thing. `make` without a target lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

# The toolchain of the machine. The cache folder may be deleted at any time.
CARGO ?= cargo

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# Checks which crates may be used, from where and under which licences (deny.toml). Built once into the cache folder if it is missing.
DENY_VERSION := 0.20.2
DENY = CARGO=$(CARGO) .ci/tool cargo cargo-deny $(DENY_VERSION)

# Checks the words of everything that users read. 3.22.0 is the newest version whose modules can all be downloaded.
VALE_VERSION := 3.22.0
VALE = .ci/tool go vale $(VALE_VERSION) github.com/vale-cli/vale/v3/cmd/vale

.PHONY: check
check: words ## Words, format, clippy, engine tests, crates and bill of materials: under two minutes, before each commit
	$(CARGO) fmt --all --check
	@# The engine alone first: in a workspace build, other members enable features that it must not have.
	$(CARGO) clippy --quiet -p engine --all-targets -- -D warnings
	$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings
	$(CARGO) test --quiet -p engine
	@.ci/price
	@# Needs no network once all crates are downloaded. Advisories change by the hour: `make advisories` checks them.
	$(CARGO) fetch --quiet --locked
	deny=$$($(DENY)); "$$deny" --offline --locked check --hide-inclusion-graph bans licenses sources
	@# The bill of materials lists every crate that is linked into the binary, with its origin and licence. It is built with the
	@# packages that `make test` selects: with others Cargo would compile most crates once more, with other features.
	$(CARGO) test --quiet -p latency-operator -p lab --test sbom --test price

.PHONY: words
words: ## Check the words that users read (docs, chart notes, field descriptions, messages): seconds; see CONTRIBUTING.md
	@vale=$$($(VALE)); .ci/words "$$vale"

.PHONY: price
price: ## Count the files that an addition has cost, against docs/adding.md (COMMIT=...; without it, the newest of each kind)
	@.ci/price $(COMMIT)

.PHONY: advisories
advisories: ## Check for known vulnerabilities and yanked crates: needs the network, for the advisory database
	deny=$$($(DENY)); "$$deny" --locked check advisories

.PHONY: sim
sim: ## Simulate the operator with faults, and check its invariants (SEED=1 HOURS=200: ten seconds)
	$(CARGO) run --quiet --release -p sim -- --seed $(or $(SEED),1) --hours $(or $(HOURS),200)

.PHONY: sim-planted
sim-planted: ## Plant one bug after the other, and simulate until each is caught: about eight minutes (SEED=1; at most HOURS=1000 each)
	@# Other compiler flags would discard the normal build, so this one has its own folder.
	RUSTFLAGS="--cfg planted_bugs" CARGO_TARGET_DIR="$${CARGO_TARGET_DIR:-target}/planted" \
		$(CARGO) run --quiet --release -p sim -- --planted --seed $(or $(SEED),1) --hours $(or $(HOURS),1000)
	@# Each regression script that belongs to a bug must reproduce it.
	RUSTFLAGS="--cfg planted_bugs" CARGO_TARGET_DIR="$${CARGO_TARGET_DIR:-target}/planted" $(CARGO) test --quiet --release -p sim

.PHONY: sweep
sweep: ## Kill, freeze and mislead the operator at every request of a full incident, with real servers: an hour (SWEEP_ONLY=cancel)
	SWEEP=full $(CARGO) test -p latency-operator --test sweep -- --nocapture

.PHONY: demo
demo: ## Break a real API and watch the operator heal it: a minute. FAULT=runaway, blocker, idle, saturation or coldcache; COMPARE=1 also without the operator; KEEP=1 keeps it running; NODE=real (as root) uses a real node, the chart and the image
	@# After the build it takes some 70 seconds: our own crates are compiled, servers start, and one incident is healed.
	@.ci/plan $(if $(filter real,$(NODE)),demo-real,demo) "$(TARGET_DIR)" 70
	@# One build, so that shared crates are compiled once. Not optimised: that would take minutes more.
	$(if $(filter real,$(NODE)),@$(MAKE) --no-print-directory image,$(CARGO) build --bins -p latency-operator -p lab)
	@exec "$(TARGET_DIR)/debug/lab" demo --node $(or $(NODE),kwok) --operator "$(TARGET_DIR)/debug/latency-operator" \
		--image "$(TARGET_DIR)/image/latency-operator.tar"

.PHONY: demos
demos: ## Play every fault of the demo, and the demo on a real node (as root), and check what they show: eight minutes
	DEMOS=all $(CARGO) test -p latency-operator -p lab --test demo

# The laboratory; `make test` names the program that it has built.
LAB ?= $(CARGO) run --quiet -p lab --

# The architecture of the image, by its name in image manifests: this machine's, amd64 or arm64.
HERE := $(patsubst aarch64,arm64,$(patsubst x86_64,amd64,$(shell uname -m)))
ARCH ?= $(HERE)
# Cargo's target for a static binary of that architecture.
STATIC := $(patsubst arm64,aarch64,$(patsubst amd64,x86_64,$(ARCH)))-unknown-linux-musl
CC_STATIC := CC_$(subst -,_,$(STATIC))
# The only C code is that of ring. It needs no C library, so any compiler for the architecture works: this machine's own, or clang for
# other architectures. Rust ships the linker for those.
ifeq ($(ARCH),$(HERE))
STATIC_ENV = $(CC_STATIC)=$${CC:-cc}
else
STATIC_ENV = $(CC_STATIC)=$${$(CC_STATIC):-clang} CARGO_TARGET_$(shell echo $(STATIC) | tr a-z- A-Z_)_LINKER=rust-lld
endif
# The archive of another architecture has the architecture in its name.
IMAGE = $(TARGET_DIR)/image/latency-operator$(if $(filter $(HERE),$(ARCH)),,-$(ARCH))
TARGET_DIR = $(shell $(CARGO) metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')

.PHONY: image
image: ## Build the image without Docker, as an archive with its bill of materials, and print its size (ARCH=arm64: needs clang)
	@case $(ARCH) in $(HERE)|amd64|arm64) ;; *) echo "ARCH=$(ARCH): images are built for amd64 and arm64" >&2; exit 1 ;; esac
	@[ $(ARCH) = $(HERE) ] || [ -n "$${$(CC_STATIC):-}" ] || command -v clang > /dev/null || \
		{ echo "ARCH=$(ARCH) needs clang, or $(CC_STATIC), for the C code of one crate: apt-get install clang" >&2; exit 1; }
	@rustup target list --installed | grep -qx $(STATIC) || rustup target add $(STATIC)
	@mkdir -p $(TARGET_DIR)/image
	@# The bill of materials is compared with the list of crates that Cargo reports as built.
	$(STATIC_ENV) $(CARGO) build --release --locked --target $(STATIC) --package latency-operator --bin latency-operator \
		--message-format json-render-diagnostics > $(TARGET_DIR)/image/built-$(ARCH).json
	@$(LAB) image --binary $(TARGET_DIR)/$(STATIC)/release/latency-operator --output $(IMAGE).tar
	@$(LAB) sbom --target $(STATIC) --binary $(TARGET_DIR)/$(STATIC)/release/latency-operator \
		--built $(TARGET_DIR)/image/built-$(ARCH).json --output $(IMAGE).cdx.json

.PHONY: sbom
sbom: ## Write the bill of materials of the binary (CycloneDX) without building it (ARCH=arm64)
	@mkdir -p $(TARGET_DIR)/sbom
	@$(LAB) sbom --target $(STATIC) --output $(TARGET_DIR)/sbom/latency-operator-$(ARCH).cdx.json

.PHONY: image-path
image-path:
	@echo $(IMAGE).tar

.PHONY: test
test: ## Run everything that CI runs, with real servers; builds or unpacks missing tools into the cache folder
	.ci/test

.PHONY: crds
crds: ## Generate crds/, schemas/ and the chart's copies from the types
	$(CARGO) run --quiet --bin latency-operator -- crds --directory crds
	$(CARGO) run --quiet --bin latency-operator -- crds --directory charts/latency-operator/files/crds
	@# Schemas for editors, and the words that the chart's admission policy knows.
	UPDATE_SCHEMAS=1 $(CARGO) test --quiet -p latency-operator --test crds

.PHONY: chart
chart: ## Lint and render the chart, and test it on a real API server: helm, promtool, every value, every right
	$(CARGO) test -p latency-operator --test chart

.PHONY: bench
bench: ## Measure against the budgets, with real servers; prints tables and writes JSON (RUNS=30; includes bench-scale: an hour)
	$(CARGO) bench -p engine --bench tick
	$(CARGO) bench --bench operator
	@$(MAKE) --no-print-directory bench-scale

.PHONY: bench-scale
bench-scale: image ## Measure only how one operator scales, with the image's binary (POLICIES=1,1000,10000 QUIET=300: 40 minutes; OPERATOR=)
	@# The allocator depends on the C library, so this measures the static binary that is shipped.
	OPERATOR="$${OPERATOR:-$(TARGET_DIR)/$(STATIC)/release/latency-operator}" $(CARGO) bench --bench scale

MDBOOK_VERSION := 0.5.4

.PHONY: book
book: ## Build docs/ as a book in target/book; builds mdbook into the cache folder if it is missing, some minutes
	@# Links out of docs/ lead to files beside the book, which are not part of it.
	@mdbook=$$(CARGO=$(CARGO) .ci/tool cargo mdbook $(MDBOOK_VERSION) --no-default-features --features search); \
	"$$mdbook" build . && \
	find target/book -name '*.html' -exec sed -i -E 's|href="\.\./([^"]*)\.html|href="../../\1.md|g' {} +
