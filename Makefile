# ringroad: `make help` lists what there is. Everything that touches the network needs root.

SHELL := /bin/bash
GO ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PGO := $(wildcard cmd/ringroad/default.pgo)
GOLANGCI_VERSION := v2.15.0
GOLANGCI_DIR := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ringroad/golangci-lint-$(GOLANGCI_VERSION)
FUZZTIME ?= 20s
BENCH_FLAGS ?= -quick
TEST_PROGRAMS := ip=iproute2 nginx=nginx wrk=wrk curl=curl wget=wget ab=apache2-utils h2load=nghttp2-client node=nodejs \
	/usr/bin/python3=python3 setpriv=util-linux prlimit=util-linux ethtool=ethtool \
	gcc=gcc /usr/include/stdio.h=libc6-dev tcpdump=tcpdump tmux=tmux tshark=tshark
RACE_PACKAGES := ./dataplane ./stack ./proxy ./proxy/clients $(addprefix ./cmd/internal/,capture control feed master worker)

.DEFAULT_GOAL := help
.PHONY: help build demo lab fail test segments soak matrix flood vm bench pgo lint vulncheck fuzz generate clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build ./ringroad
	CGO_ENABLED=0 $(GO) build -trimpath $(if $(PGO),-pgo=$(PGO)) -ldflags '-X main.version=$(VERSION)' -o ringroad ./cmd/ringroad

demo: ## relay requests in a network of namespaces and show what passed where (root, a minute; DEMO_FLAGS: -queues N, -rss, -link loss=1%)
	@hack/install ip=iproute2 nginx=nginx wrk=wrk curl=curl
	@$(GO) run ./hack/demo $(DEMO_FLAGS)

lab: ## the same network, kept up to play with until Ctrl-C (root)
	@hack/install ip=iproute2 nginx=nginx wrk=wrk curl=curl ping=iputils-ping
	@$(GO) run ./hack/demo -stay $(DEMO_FLAGS)

fail: ## bring a failure about and show what tells of it (root; NAME=slow-client; without NAME the list)
	@[[ -z "$(NAME)" ]] || hack/install ip=iproute2 nginx=nginx
	@$(GO) run ./hack/fail $(NAME)

test: ## vet, all tests, and those of packages with goroutines once more under the race detector (root)
	@hack/install $(TEST_PROGRAMS)
	$(GO) vet ./...
	$(GO) test -count=1 -timeout 15m ./...
	CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 15m $(RACE_PACKAGES)

segments: ## the TCP against the kernel's, segment by segment, and path MTU discovery through routers (root, a minute; SEGMENTS=TIME-WAIT: cases with that in their names)
	@hack/install ip=iproute2 nginx=nginx
	$(GO) test -tags segments -count=1 -v ./hack/segments

soak: ## mixed traffic while things go wrong, then an account of everything (root, half an hour; SOAK_FLAGS: -d, -seed, -legs, -clients)
	@hack/install ip=iproute2 nginx=nginx
	@$(GO) run ./hack/soak $(SOAK_FLAGS)

vm: ## the drivers of real network cards in virtual machines: zero-copy, RSS, link changes (four minutes; VM_FLAGS: -short, -only NAME, -run PATTERN, -v, -fetch)
	@hack/install xz=xz-utils
	@$(GO) run ./hack/vm $(VM_FLAGS)

bench: ## compare with nginx and HAProxy on this machine (root, two minutes; BENCH_FLAGS= for all cases, -help for more)
	@hack/install ip=iproute2 nginx=nginx haproxy=haproxy wrk=wrk
	@$(GO) run ./hack/bench $(BENCH_FLAGS)

matrix: ## compare with nginx over links with loss, reordering, duplicates and delay (root, some ten minutes; MATRIX_FLAGS: -seeds N, -cells PATTERN)
	@hack/install ip=iproute2 nginx=nginx
	@$(GO) run ./hack/matrix $(MATRIX_FLAGS)

flood: ## floods against ringroad and nginx, a verdict on each: what open connections keep, whether new ones succeed, memory (root, four minutes; FLOOD_FLAGS: -kinds syn,ack, -r 1, -d 2s, -only ringroad)
	@hack/install ip=iproute2 nginx=nginx ethtool=ethtool
	@$(GO) run ./hack/flood $(FLOOD_FLAGS)

pgo: ## train the profile that the build is optimised with (root, a minute)
	@hack/install ip=iproute2 nginx=nginx wrk=wrk
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	  $(GO) run ./hack/bench -candidates ringroad -r 0 -d 12s -cases c64 -latency=false -profiles $$dir && \
	  $(GO) run ./hack/bench -candidates ringroad -r 0 -d 4s -cases 64k,close -profiles $$dir && \
	  $(GO) tool pprof -proto $$dir/c64.pprof $$dir/64k.pprof $$dir/close.pprof > cmd/ringroad/default.pgo

lint: ## gofmt, vet and golangci-lint (built into the user's cache folder when missing)
	@unformatted=$$(gofmt -l bpf cmd dataplane stack proxy hack); if [[ -n $$unformatted ]]; then echo "not formatted by gofmt:" $$unformatted; exit 1; fi
	$(GO) vet ./...
	@[[ -x $(GOLANGCI_DIR)/golangci-lint ]] || GOBIN=$(GOLANGCI_DIR) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	$(GOLANGCI_DIR)/golangci-lint run ./...

vulncheck: ## known vulnerabilities that the code can reach, in dependencies and the standard library (govulncheck, built into the user's cache folder when missing)
	@GO=$(GO) hack/vulncheck

fuzz: ## every fuzz test for FUZZTIME (20s; root)
	@GO=$(GO) hack/fuzz $(FUZZTIME)

generate: ## compile the BPF programs and regenerate their Go bindings (clang)
	@hack/install clang=clang llvm-strip=llvm /usr/include/bpf/bpf_helpers.h=libbpf-dev
	$(GO) generate ./bpf/... ./hack/lab/rss/...

clean: ## remove what the other targets made
	rm -f ringroad *.test *.out *.prof
