# Building, testing and showing nodetap. `make help` lists what there is.

PREFIX ?= /usr/local
export NODETAP_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/nodetap

# One static file that can be copied to any server. The target is named even though it
# is this machine's own, so that the flag does not reach build scripts and proc macros.
TRIPLE := x86_64-unknown-linux-gnu
build test: export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS := -C target-feature=+crt-static
CARGO_FLAGS := --locked --release --target $(TRIPLE)
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BINARY := $(TARGET_DIR)/$(TRIPLE)/release/nodetap

# Profiling another process takes root; building does not.
ifneq ($(shell id -u),0)
SUDO := sudo
test accuracy: export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER = sudo env NODETAP_CACHE=$(NODETAP_CACHE) NODETAP_TEST_NODES=$(NODETAP_TEST_NODES) NODETAP_ACCURACY=$(NODETAP_ACCURACY)
endif

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo build install test test-all accuracy lint bench bench-scale bench-walk bench-ptrace bench-wall tools clean

help: ## lists the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: build ## profiles a small program for five seconds and shows where it was
	@scripts/demo.sh $(BINARY) $(SUDO)

build: tools ## builds the static release binary
	cargo build $(CARGO_FLAGS) --package nodetap

SHARE := $(DESTDIR)$(PREFIX)/share
install: $(if $(wildcard $(BINARY)),,build) ## copies the binary, its manual and shell completions below PREFIX (default /usr/local)
	install -D --mode=755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/nodetap
	install -d $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	$(BINARY) completions bash > $(SHARE)/bash-completion/completions/nodetap
	$(BINARY) completions zsh > $(SHARE)/zsh/site-functions/_nodetap
	$(BINARY) completions fish > $(SHARE)/fish/vendor_completions.d/nodetap.fish
	$(BINARY) man $(SHARE)/man/man1

test: tools ## fetches what the tests need (kept in ~/.cache/nodetap) and runs them all; TESTS='-p nodetap --test dump': some
	@scripts/install-packages.sh tests
	@scripts/fetch-nodes.sh
	@scripts/fetch-debian-node.sh
	@scripts/fetch-test-programs.sh
	@scripts/fetch-test-programs.sh crates/nodetap/tests/fixtures/npm-formats format-readers
	@scripts/fetch-test-programs.sh crates/nodetap/tests/fixtures/npm-transpilers transpilers
	cargo test $(CARGO_FLAGS) $(or $(TESTS),--workspace) --no-fail-fast

test-all: export NODETAP_TEST_NODES := all
test-all: test ## the same on the first release of each line of Node.js too; takes long

accuracy: export NODETAP_ACCURACY := $(abspath $(TARGET_DIR))/accuracy.jsonl
accuracy: tools ## makes the README's table: what nodetap says of frames against what is true
	@scripts/fetch-nodes.sh
	@rm -f $(NODETAP_ACCURACY)
	cargo test --locked --package nodetap --test oracle --test oracle_es5 --no-fail-fast
	node scripts/accuracy.js $(NODETAP_ACCURACY) README.md

lint: tools ## formatting and clippy
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

# What is not here is a row that says so.
bench: build ## what profilers cost a program: nodetap and others, in docs/benchmarks.md; ROUNDS=, PROGRAMS=, NODES=
	@scripts/install-packages.sh bench || echo 'nodetap: going on without perf'
	@scripts/fetch-nodes.sh
	@scripts/fetch-test-programs.sh bench/npm bench-programs
	@$(SUDO) "$$(command -v node)" bench/bench.js $(BINARY) $(NODETAP_CACHE)/nodes \
		$(NODETAP_CACHE)/bench-programs/node_modules 'rounds=$(ROUNDS)' 'turns=$(TURNS)' \
		'programs=$(PROGRAMS)' 'nodes=$(NODES)' 'minutes=$(MINUTES)' docs=docs/benchmarks.md

bench-scale: build ## how nodetap's cost grows: many processes, deep stacks, high rates, much code, time; DURATION=
	@scripts/fetch-nodes.sh
	@$(SUDO) "$$(command -v node)" bench/scale.js $(BINARY) $(NODETAP_CACHE)/nodes . \
		'duration=$(DURATION)' 'cases=$(CASES)' 'nodes=$(NODES)' docs=docs/benchmarks.md

bench-walk: build ## what sampling costs: the walk in the kernel, nodetap's own CPU and memory
	@scripts/fetch-nodes.sh
	@$(SUDO) "$$(command -v node)" scripts/bench-walk.js $(BINARY) $(NODETAP_CACHE)/nodes

bench-ptrace: build ## what the ptrace sampler costs: how long threads are stopped, how much slower they are
	@scripts/fetch-nodes.sh
	@$(SUDO) "$$(command -v node)" scripts/bench-ptrace.js $(BINARY) $(NODETAP_CACHE)/nodes

bench-wall: build ## what --wall costs: CPU time of the program for each wait
	@scripts/fetch-nodes.sh
	@$(SUDO) "$$(command -v node)" scripts/bench-wall.js $(BINARY) $(NODETAP_CACHE)/nodes

tools:
	@scripts/install-packages.sh

clean: ## removes what was built
	cargo clean
