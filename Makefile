SHELL       := /bin/bash
.SHELLFLAGS := -eo pipefail -c
# `make help` lists the targets. DESTDIR, PREFIX, HOOK, HOOK_TARGET, HOOK_FLAGS, LAB, CARGO and CARGO_FLAGS (e.g. --offline) may be set;
# packaging/install tells what else an installation knows.
CARGO       ?= cargo
CARGO_FLAGS ?=
DESTDIR     ?=
PREFIX      ?= /usr
HOOK        ?= qemu.d
LAB         ?= target/lab
# Where cargo builds.
TARGET      := $(or $(CARGO_TARGET_DIR),target)
GENERATED   := target/generated
# The hook as it is installed, for tests and measurements: next to the virtfit that tests run, where cargo leaves it alone.
HOOK_TESTED := $(abspath $(TARGET))/debug/hook-as-installed
export FROM ?= $(TARGET)/release
export GENERATED
FUZZ_CASES  ?= 20000
FUZZ_SECONDS ?= 60

# libvirt runs the hook several times for each start and waits for it. Linked with musl, at fixed addresses, it takes about half of the
# time that it takes linked dynamically with glibc (docs/benchmarks.md). So it is made where Rust has that for this machine
# (`make musl`), else with glibc, statically where that has a static half. For distributions that want neither:
# HOOK_TARGET= HOOK_FLAGS=
MUSL         = $(shell rustc -vV | sed -n 's/^host: \(.*\)-gnu$$/\1-musl/p')
HOOK_TARGET ?= $(if $(wildcard $(shell rustc --print sysroot)/lib/rustlib/$(MUSL)/lib),$(MUSL))
HOOK_FLAGS  ?= $(if $(HOOK_TARGET),-C relocation-model=static,$(shell \
	echo 'int main(void) { return 0; }' | $${CC:-cc} -static -x c -o /dev/null - 2>/dev/null && echo -C target-feature=+crt-static))

# Built by itself: for musl there is neither hwloc nor libvirt.
define build_hook
$(CARGO) rustc --release --locked $(CARGO_FLAGS) -p virtfit-hook $(addprefix --target ,$(HOOK_TARGET)) \
	--bin virtfit-hook -- $(HOOK_FLAGS)
$(if $(HOOK_TARGET),install -D -m 0755 $(TARGET)/$(HOOK_TARGET)/release/virtfit-hook $(TARGET)/release/virtfit-hook)
install -D -m 0755 $(TARGET)/release/virtfit-hook $(HOOK_TESTED)
endef

define build_release
$(CARGO) build --release --locked $(CARGO_FLAGS) --bin virtfit --bin virtfitd --bin virtfit-generate
$(build_hook)
endef

.DEFAULT_GOAL := help
.PHONY: help setup musl build generate demo test check bench fuzz bless install uninstall rpm deb packages-test deny advisories lab clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what building and testing need (apt, as root; else say what is missing)
	@.ci/setup

musl: ## Get Rust's musl for this machine (rustup): the hook takes half the time then
	rustup target add $(MUSL)

build: ## Build the release binaries
	$(build_release)

generate: ## Write manual pages and completions into target/generated, after build
	$(FROM)/virtfit-generate $(GENERATED)

demo: ## Fit a guest to a server that is not there: the paper's, from fixtures/
	@.ci/setup build
	$(CARGO) build --quiet --locked $(CARGO_FLAGS)
	@printf '\n$$ virtfit --root fixtures/hosts/paper --policy fixtures/demo.toml plan fixtures/domains/def.xml\n'
	@target/debug/virtfit --root fixtures/hosts/paper --policy fixtures/demo.toml plan fixtures/domains/def.xml
	@printf '\n$$ virtfit ... plan --diff fixtures/domains/def.xml\n'
	@target/debug/virtfit --root fixtures/hosts/paper --policy fixtures/demo.toml plan --diff fixtures/domains/def.xml

test: ## Run all tests, also those that need root and libvirt
	@.ci/setup
	$(CARGO) test --locked $(CARGO_FLAGS)
	$(build_hook)
	VIRTFIT_HOOK=$(HOOK_TESTED) $(CARGO) test --locked $(CARGO_FLAGS) --test hook
	VIRTFIT_HOOK=$(HOOK_TESTED) $(CARGO) test --locked $(CARGO_FLAGS) --lib --bins --tests -- --ignored --test-threads=1
	$(CARGO) test --locked $(CARGO_FLAGS) --profile load --test load --test cost -- --nocapture --test-threads=1

check: ## Format, lints, documentation, prose, fixtures
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked $(CARGO_FLAGS) --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked $(CARGO_FLAGS) --no-deps --document-private-items
	packaging/licenses --check
	packaging/changes --check
	.ci/prose
	@if [ -x fixtures/make-host ]; then fixtures/make-host --check; fi

bench: ## Measure: placement, rewriting, and whole processes against others, as ratios
	@.ci/setup
	$(build_release)
	VIRTFIT_HOOK=$(HOOK_TESTED) $(CARGO) bench --locked $(CARGO_FLAGS)
	$(build_release)
	benches/processes target/release/virtfit

fuzz: ## Fuzz every parser for FUZZ_SECONDS each, the property tests with many more cases (FUZZ_CASES), and what XML costs
	VIRTFIT_FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test --locked $(CARGO_FLAGS) --release --test fuzz -- --nocapture
	PROPTEST_CASES=$(FUZZ_CASES) $(CARGO) test --locked $(CARGO_FLAGS) --release --lib --test placement
	VIRTFIT_TRUTH_CASES=20000 $(CARGO) test --locked $(CARGO_FLAGS) --release --test truth
	VIRTFIT_COST_PIECES=4000 $(CARGO) test --locked $(CARGO_FLAGS) --release --test cost -- --nocapture

bless: ## Rewrite the goldens; read the diff before you commit it
	-VIRTFIT_BLESS=1 $(CARGO) test --locked $(CARGO_FLAGS) --lib --test render --test golden -- --include-ignored every_case goldens
	@git --no-pager diff --stat -- fixtures tests/render
	@echo 'The goldens are rewritten. Read `git diff fixtures tests/render`: every line of it is a change of behaviour.'

install: build generate ## Install below DESTDIR and PREFIX; HOOK=main for libvirt before 6.5, HOOK=none for no hook
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' HOOK='$(HOOK)' packaging/install

uninstall: ## Remove what install put there
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' packaging/install --remove

rpm: ## Source and binary RPMs of the last commit into target/rpm; RPM_FLAGS=--nocheck leaves %check out
	@.ci/setup packages
	packaging/rpm $(RPM_FLAGS)

deb: build generate ## A Debian package of what is built into target/deb
	packaging/deb

packages-test: ## Compare, install, upgrade and remove what `make rpm` and `make deb` make, with libvirt running (root)
	@.ci/setup packages
	$(FROM)/virtfit-generate $(GENERATED)
	tests/installed
	tests/packages

deny: ## Licences, bans and sources of what is linked, with cargo-deny (built once into target/tools)
	@command -v cargo-deny >/dev/null || [ -x target/tools/bin/cargo-deny ] || \
	  CARGO_TARGET_DIR=target/tools/build $(CARGO) install --quiet --debug --locked --no-default-features --root target/tools cargo-deny
	@rm -rf target/tools/build
	PATH="$$PATH:$(CURDIR)/target/tools/bin" $(CARGO) deny check licenses bans sources

advisories: ## Published advisories against what is linked; needs github.com
	PATH="$$PATH:$(CURDIR)/target/tools/bin" $(CARGO) deny check advisories

lab: ## The paper's server in emulation, virtfit on it, every thread looked at (root; 10 minutes)
	@.ci/setup
	$(build_release)
	$(MAKE) --no-print-directory generate
	rm -rf target/lab-stage
	DESTDIR=target/lab-stage PREFIX=/usr packaging/install
	lab/disk $(LAB)
	lab/run $(LAB) target/lab-stage | tee target/lab.out
	@echo 'To keep it: cp target/lab.out docs/lab.txt'

clean: ## Remove what was built
	$(CARGO) clean
