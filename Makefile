# The front door. meson and ninja do the work; see CONTRIBUTING.md.
#
#   make             build/kiln
#   make quickstart  from a bare Debian 12 to a container running in its own machine
#   make check       build and run the tests; the last line is "N passed, N failed"
#
# Variables: BUILD (build), PREFIX (/usr/local), DESTDIR, SUITE (for check: one or more suites),
# SANITIZE=1 (for check: also under ASan and UBSan), KILN_ROOT (the image and kernel store).

BUILD ?= build
PREFIX ?= /usr/local
SUITE ?=
SANITIZE ?= 0
FUZZ_SECONDS ?= 60
CLANG_FORMAT ?= clang-format

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@tools/deps.sh --check build
	@meson setup --prefix $(PREFIX) $(BUILD)

deps:
	@tools/deps.sh build check kernel

quickstart:
	@BUILD=$(BUILD) tools/quickstart.sh

# Root gets what the tests need; others are told, and what cannot run is skipped with its reason.
check:
	@if [ "$$(id -u)" = 0 ]; then tools/deps.sh build check; else tools/deps.sh --check build check || true; fi
	@BUILD=$(BUILD) SANITIZE=$(SANITIZE) tools/check.py $(SUITE)

asan:
	@BUILD=$(BUILD) SANITIZE=only tools/check.py $(SUITE)

fuzz:
	@BUILD=$(BUILD) tools/fuzz.sh $(FUZZ_SECONDS) $(TARGET)

bench: all
	@BUILD=$(BUILD) bench/boot.sh

# Workload by workload, natively, under QEMU's TCG and under kiln: docs/performance.md. ARGS="--quick", ...
bench-engine: all
	@BUILD=$(BUILD) bench/engine.py $(ARGS)

# kiln run from a template and cold, beside runc: docs/snapshots.md. ARGS="--runs 10", ...
bench-start: all
	@BUILD=$(BUILD) bench/start.py $(ARGS)

# A process-class container against crun and runc, start to end.
bench-process: all
	@BUILD=$(BUILD) bench/process.py $(ARGS)

# iperf3 and ping over a tap, beside QEMU's TCG: docs/performance.md. ARGS="--runs 5", ...
bench-net: all
	@BUILD=$(BUILD) bench/net.py $(ARGS)

# A command inside, the log, many at once, in both classes: docs/performance.md. ARGS="--machines 50", ...
bench-life: all
	@BUILD=$(BUILD) bench/life.py $(ARGS)

fmt:
	@$(CLANG_FORMAT) -i $$(git ls-files '*.c' '*.h')

install: all
	@meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

kernel:
	@tools/make-kernel.sh

kernel-debian:
	@tools/get-debian-kernel.sh

clean:
	@rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-fuzz

.PHONY: all deps quickstart check asan fuzz bench bench-engine bench-start bench-process bench-net bench-life fmt install kernel kernel-debian clean
