# `make help` lists what can be done here. Needs Node and npm; everything else comes with `npm ci`.
SHELL := /bin/bash
.DEFAULT_GOAL := help

DATA ?= volumes
VOLUME ?= demo
SIZE ?= 1G
LISTEN ?= 127.0.0.1:10809
REPORT := build/test-report.json
SOURCES := $(shell find src -name '*.ts' 2>/dev/null) tsconfig.json tsconfig.build.json package.json
BASALT := node dist/cli/basalt.cjs

.PHONY: help deps build run test vitest check typecheck lint conformance config sim remote-worlds resize-worlds exhaustive mutants bench bench-micro bench-open bench-slow-card bench-s3 byte-flip interop-s3 s3-demo crash-s3 takeover-s3 outage-s3 newer-clients vm-boot vm-attach crash crash-full strace-crash fuzz fuzz-build crowd tools clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The lock file decides, not a time stamp: a checkout changes times without changing a package.
deps: ## install the packages of package-lock.json, if they are not installed
	@cmp -s package-lock.json node_modules/.installed-lock.json \
	  || { npm ci --no-audit --no-fund && cp package-lock.json node_modules/.installed-lock.json; }

dist/.built: $(SOURCES) | deps
	npm run --silent build
	@touch $@

build: dist/.built ## compile src to dist

run: dist/.built ## serve a 1 GiB volume `demo` on 127.0.0.1:10809 (DATA=, VOLUME=, SIZE=, LISTEN= change that)
	@mkdir -p '$(DATA)'
	@$(BASALT) show '$(VOLUME)' --data '$(DATA)' >/dev/null 2>&1 || $(BASALT) create '$(VOLUME)' '$(SIZE)' --data '$(DATA)' >/dev/null
	@listen='$(LISTEN)'; uri="nbd://$$listen/$(VOLUME)"; \
	printf '%s\n' \
	  "volume $(VOLUME) in $(DATA), to be served on $$listen; from another terminal:" \
	  "  attach:   sudo $(BASALT) attach $$uri" \
	  "  detach:   sudo $(BASALT) detach $$uri" \
	  "  look:     nbdinfo $$uri" \
	  "  copy:     qemu-img convert -p -n -f raw -O raw IMAGE $$uri" \
	  "  try:      qemu-io -f raw -c 'write -P 90 0 64k' -c flush -c 'read -P 90 0 64k' $$uri" \
	  "stop with Ctrl-C"
	@exec $(BASALT) serve --data '$(DATA)' --listen '$(LISTEN)'

typecheck: | deps ## check the types of src, test and bench
	npm run --silent typecheck

lint: | deps ## check the code with oxlint
	npm run --silent lint

check: typecheck lint ## typecheck and lint

test: check build vitest ## everything that must be green: types, lint, build, all tests

vitest: dist/.built
	@mkdir -p build && rm -f $(REPORT)
	@npx vitest run --reporter=default --reporter=json --outputFile.json=$(REPORT); \
	node .ci/summary.mjs $(REPORT)

# Node 20 does not run TypeScript: the benchmark and the crash test are compiled, with the parts of src they use.
tools: | deps
	@npx tsc -p tsconfig.tools.json

sim: | deps ## run the engine in simulated worlds (SEEDS=1000 of them, or the one of SEED=)
	@npx tsc -p test/sim/tsconfig.json
	@node build/sim/test/sim/main.js $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000)) $(ARGS)

remote-worlds: | deps ## hosts that share a bucket, die, follow a volume and take it from each other, simulated (SEEDS=200 worlds from SEED=1)
	@npx tsc -p test/sim/tsconfig.json
	@node build/sim/test/sim/remote-main.js --first $(or $(SEED),1) --seeds $(or $(SEEDS),200)

resize-worlds: | deps ## volumes without and with a bucket that are resized while their machine dies at any call (SEEDS=300 worlds from SEED=1)
	@npx tsc -p test/sim/tsconfig.json
	@node build/sim/test/sim/resize-main.js --first $(or $(SEED),1) --seeds $(or $(SEEDS),300)

exhaustive: | deps ## crash a fixed script at every call, with every subset of the last 6 unsynced changes kept (ARGS="--mode relaxed --step 10 --decided 3")
	@npx tsc -p test/sim/tsconfig.json
	@node build/sim/test/sim/exhaustive-main.js $(ARGS)

mutants: tools ## break the engine in each known way: 500 simulated worlds must find each
	@node build/tools/test/mutation/main.js $(ARGS)

bench: dist/.built tools ## compare with nbdkit and qemu-nbd under fio (ARGS=--help lists its options)
	@node build/tools/bench/main.js $(ARGS)

bench-micro: tools ## time the parts of the data path one by one (ARGS="codec arena index chunk log")
	@node build/tools/bench/micro/main.js $(ARGS)

bench-open: dist/.built tools ## time the opening of 25 million stored blocks, of 100,000 log records after a kill -9, and nbdinfo's map of a million extents (ARGS=--help)
	@node build/tools/bench/opening/main.js $(ARGS)

bench-s3: dist/.built tools ## volumes with a bucket on a Ceph gateway against the bare SDK, s3backer and one without a bucket; and the requests they make (ARGS=--help)
	@AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED=true node build/tools/bench/s3/main.js $(ARGS)

bench-slow-card: dist/.built tools ## milliseconds a block on an SD card of 20 MB/s and 5 ms a flush; needs root
	@node build/tools/bench/slow-card.js $(ARGS)

s3-demo: dist/.built tools ## a volume on a Ceph gateway: made, filled, drained, its directory deleted, opened from the bucket, compared (needs nbdcopy; MIB=1024)
	@test/s3/demo.sh $(or $(MIB),1024)

newer-clients: dist/.built ## extended headers spoken by libnbd and QEMU of a later Debian, and checked with its qemu-nbd, fetched into build/ (needs apt, and nbdkit)
	@test/interop/fetch-newer-clients.sh build/newer-clients
	@NEWER_CLIENTS='$(CURDIR)/build/newer-clients' CONFORMANCE_QEMU_NBD='$(CURDIR)/build/newer-clients/tools/qemu-nbd' \
	  npx vitest run test/interop/newer-clients.test.ts test/interop/conformance.test.ts

crash-s3: dist/.built tools ## kill -9 the server of a volume with a bucket, and the S3 server, RUNS times (20): what its disk has, what its bucket has
	@AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED=true node build/tools/test/s3/campaign/kill-main.js --runs $(or $(RUNS),20) $(ARGS)

takeover-s3: dist/.built tools ## two hosts take a volume with a bucket from each other under load, RUNS times (100): what each promised, and that one writes
	@AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED=true node build/tools/test/s3/campaign/takeover-main.js --runs $(or $(RUNS),100) $(ARGS)

outage-s3: dist/.built tools ## the S3 server of a volume is gone for MINUTES (10) under load: no request fails, and the bucket catches up
	@AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED=true node build/tools/test/s3/campaign/outage-main.js --seconds $$(( $(or $(MINUTES),10) * 60 )) $(ARGS)

interop-s3: | deps ## the S3 store against Ceph RGW 20, RGW 18 (creates only) and OpenStack Swift (no conditional write); needs apt the first time
	@for kind in ceph20 ceph18 swift; do S3_KIND=$$kind npx vitest run test/s3/s3-store.test.ts || exit; done

vm-boot: dist/.built ## boot a Debian kernel in QEMU from a volume, twice, and check what it wrote (test/vm/boot.sh says what that needs)
	@test/vm/boot.sh

vm-attach: dist/.built ## attach volumes to a real kernel in a virtual machine, and restart the server under a mounted file system (test/vm/attach.sh says what that needs)
	@test/vm/attach.sh

byte-flip: tools ## change every byte of every file of a small volume, one at a time: never a wrong read (`make test`: a sample; ARGS=--help)
	@node build/tools/test/damage/main.js $(ARGS)

crash: dist/.built tools ## kill -9 the server under load, RUNS times (200), and check what it acknowledged
	@node build/tools/test/crash/main.js --runs $(or $(RUNS),200) $(ARGS)

crash-full: dist/.built tools ## kill -9 the server while its file system is full, RUNS times (100); needs root
	@node build/tools/test/crash/full-main.js --runs $(or $(RUNS),100) $(ARGS)

strace-crash: dist/.built tools ## recover from STATES crash states (2000) of the real server, taken from a trace of its system calls
	@node build/tools/test/crash/strace-main.js --states $(or $(STATES),2000) $(ARGS)

conformance: dist/.built tools ## check the server of URI= against the NBD protocol, or basalt in each of its ways; WRITES to the export (ARGS=--help)
	@node build/tools/test/conformance/nbd/main.js --uri '$(URI)' $(ARGS)

crowd: dist/.built tools ## 12,100 clients that idle, stall or never read, and one that works: it is served, and memory is bounded (ARGS=--help)
	@node build/tools/test/crowd/main.js $(ARGS)

fuzz-build: | deps
	@rm -rf build/fuzz/src build/fuzz/test
	@npx tsc -p test/fuzz/tsconfig.json
	@node build/fuzz/test/fuzz/instrument.js

fuzz: fuzz-build ## run mutated client sessions for MINUTES (1), or replay the one of INPUT=file (test/fuzz/README.md)
	@node build/fuzz/test/fuzz/main.js $(if $(INPUT),--input '$(INPUT)',--minutes $(or $(MINUTES),1)) $(ARGS)

config: dist/.built ## write config/default.toml from the table of settings
	@$(BASALT) settings --toml > config/default.toml

clean: ## remove what was built; volumes stay
	rm -rf dist build bench/results
