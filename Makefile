# `make help` lists the targets. DESTDIR, PREFIX, CARGO and CARGO_FLAGS (e.g. --offline) may be set.
CARGO       ?= cargo
CARGO_FLAGS ?=
DESTDIR     ?=
PREFIX      ?= /usr/local
BINDIR      ?= $(PREFIX)/bin
DOCDIR      ?= $(PREFIX)/share/doc/virtfit
FUZZ_CASES  ?= 20000
FUZZ_SECONDS ?= 60

.DEFAULT_GOAL := help
.PHONY: help setup build demo test check bench fuzz bless install clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Install what building and testing need (apt, as root; else say what is missing)
	@.ci/setup

build: ## Build the release binary
	$(CARGO) build --release --locked $(CARGO_FLAGS)

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
	$(CARGO) test --locked $(CARGO_FLAGS) --lib --bins --tests -- --ignored --test-threads=1

check: ## Format, lints, documentation, fixtures
	$(CARGO) fmt --check
	$(CARGO) clippy --locked $(CARGO_FLAGS) --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked $(CARGO_FLAGS) --no-deps
	@if [ -x fixtures/make-host ]; then fixtures/make-host --check; fi

bench: ## Measure: placement, rewriting, and whole processes against others, as ratios
	@.ci/setup
	$(CARGO) bench --locked $(CARGO_FLAGS)
	$(CARGO) build --release --locked $(CARGO_FLAGS)
	benches/processes target/release/virtfit

fuzz: ## Fuzz every parser for FUZZ_SECONDS each, and the property tests with many more cases (FUZZ_CASES)
	VIRTFIT_FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test --locked $(CARGO_FLAGS) --release --test fuzz -- --nocapture
	PROPTEST_CASES=$(FUZZ_CASES) $(CARGO) test --locked $(CARGO_FLAGS) --release --lib --test placement

bless: ## Rewrite the goldens; read the diff before you commit it
	-VIRTFIT_BLESS=1 $(CARGO) test --locked $(CARGO_FLAGS) --test render --test golden -- --include-ignored every_case goldens
	@git --no-pager diff --stat -- fixtures tests/render
	@echo 'The goldens are rewritten. Read `git diff fixtures tests/render`: every line of it is a change of behaviour.'

install: build ## Install below DESTDIR and PREFIX
	install -D -m 0755 target/release/virtfit $(DESTDIR)$(BINDIR)/virtfit
	install -D -m 0644 LICENSE $(DESTDIR)$(DOCDIR)/LICENSE
	install -D -m 0644 README.md $(DESTDIR)$(DOCDIR)/README.md
	install -D -m 0644 CHANGELOG.md $(DESTDIR)$(DOCDIR)/CHANGELOG.md
	install -D -m 0644 docs/policy.md $(DESTDIR)$(DOCDIR)/policy.md
	install -D -m 0644 hooks/README.md $(DESTDIR)$(DOCDIR)/hooks.md

clean: ## Remove what was built
	$(CARGO) clean
