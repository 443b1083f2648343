# The commands that people need. Each one sets up what it needs on a fresh Debian or Ubuntu with a Rust toolchain (see scripts/setup).

.PHONY: demo test test-v2 chaos fuzz bench soak arm64 build dist lint setup

demo: setup            ## the main job, live
	cargo build --release -p plimsoll
	./target/release/plimsoll demo

test: setup clients    ## every test; needs root
	cargo test --workspace --no-fail-fast

test-v2: setup clients ## the tests of containers in a virtual machine with cgroup v2; needs root
	./scripts/test-v2

chaos: setup clients   ## ten minutes of disasters (or PLIMSOLL_CHAOS_SECONDS), in the order of PLIMSOLL_SEED; needs root
	PLIMSOLL_CHAOS_SECONDS=$${PLIMSOLL_CHAOS_SECONDS:-600} cargo test --workspace --test durability -- chaos --nocapture

fuzz:                  ## every fuzz target for a minute (or PLIMSOLL_FUZZ_SECONDS); needs nightly Rust and cargo-fuzz
	@set -e; for target in $$(cargo +nightly fuzz list); do \
		echo "== $$target"; \
		cargo +nightly fuzz run $$target -- -max_total_time=$${PLIMSOLL_FUZZ_SECONDS:-60}; \
	done

bench: setup clients   ## one table of figures beside peers (PEERS="NAME=KUBECONFIG …": other API servers, too); needs root
	cargo build --release --workspace --bin plimsoll --example api_load --example scheduler_load --example decide_rate --example network_bench
	./bench/run $(PEERS)

soak: setup clients    ## an hour of everyday work: memory, descriptors and threads are flat; needs root
	cargo build --release -p plimsoll
	./bench/soak --plot docs/soak.svg

arm64:                 ## does it build for arm64? needs gcc-aarch64-linux-gnu, and the target's standard library by rustup
	CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc cargo check --target aarch64-unknown-linux-gnu -p plimsoll

build:
	cargo build --release -p plimsoll

dist:                  ## the binary to hand out, smaller: target/dist/plimsoll
	cargo build --profile dist -p plimsoll

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

setup:
	@./scripts/setup

.PHONY: clients
clients:
	@./scripts/clients
