# Everything starts here:  make run · make test · make stop

TRIPLE  := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
OUT     := $(or $(CARGO_TARGET_DIR),target)/$(TRIPLE)
DATA    ?= /var/lib/hythe
PORT    ?= 6443
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
HYTHE   := $(SUDO) $(OUT)/release/hythe --data-dir $(DATA)
IMAGES  := target/images
# How long each parser is fed with mutations of its kept corpus in `make test`.
FUZZ_SECONDS ?= 20

.PHONY: run test test-cgroup2 stop build deps test-deps images lint bench bench-docker clean

run: deps build ## build, start, and bring the sample application up
	sh scripts/run-sample.sh "$(HYTHE)" "$(PORT)" "$(IMAGES)"

stop: ## end what `make run` started, and leave no trace
	$(HYTHE) down --purge

build: deps ## the small binary of the pattern containers, then the whole with that embedded; as one workspace, so that they share what is built
	cargo build --release --locked --workspace --bin hythe-patterns
	HYTHE_PATTERNS=$(abspath $(OUT))/release/hythe-patterns \
	HYTHE_COMMIT=$$(git rev-parse HEAD 2>/dev/null || printf '%040d' 0) cargo build --release --locked --workspace --bin hythe

test: test-deps images ## all tests, end-to-end included (as root: they make namespaces, mounts and links)
	HYTHE_TEST_IMAGES=$(CURDIR)/$(IMAGES) FUZZ_SECONDS=$(FUZZ_SECONDS) cargo nextest run --workspace --locked --no-fail-fast
	$(MAKE) test-cgroup2

test-cgroup2: test-deps images ## what depends on cgroups, in a virtual machine that has cgroup v2 only
	sh scripts/deps.sh build test guest
	HYTHE_TEST_IMAGES=$(CURDIR)/$(IMAGES) sh tests/cgroup2/run.sh

lint: deps
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

bench: build
	sh benches/run.sh "$(OUT)/release/hythe"

bench-docker: build test-deps images ## the container engine beside podman, buildah and skopeo
	HYTHE_TEST_IMAGES=$(CURDIR)/$(IMAGES) sh benches/docker.sh "$(OUT)/release/hythe"

images: test-deps
	sh examples/guestbook/images.sh $(IMAGES)

deps:
	sh scripts/deps.sh build

test-deps:
	sh scripts/deps.sh build test

clean:
	cargo clean
	rm -rf $(IMAGES)
