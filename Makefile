# What one does here, by name. `make` alone lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# make test PKG=./db/... ARGS='-run TestSeats -v'
PKG  ?= ./...
ARGS ?=

ENV    := go run ./internal/testenv/run --
BUF    := client/web/node_modules/.bin/buf
NPM    := client/web/node_modules/.package-lock.json
LINTER := .bin/golangci-lint
GEN    := gen client/web/src/gen
WEB    := npm --prefix client/web --silent run

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## serve on http://127.0.0.1:8080, with nothing else installed
	go run ./cmd/free2talk

.PHONY: test
test: deps ## all tests, with the race detector, on real servers, and in Chromium; PKG=./db/... ARGS='-run X'
	$(ENV) go test -race -shuffle=on -count=1 -parallel=4 -timeout=40m $(ARGS) $(PKG)
ifeq ($(PKG)$(ARGS),./...)
	@$(MAKE) webtest e2e
endif

.PHONY: webtest
webtest: $(NPM) ## tests of the library for browsers, in memory, and what it costs a page
	$(WEB) test
	$(WEB) size

.PHONY: e2e
e2e: $(NPM) build ## the flows of people, in Chromium; screenshots in client/web/artifacts
	@.ci/deps postgres redis chromium nginx
	$(ENV) $(WEB) e2e

.PHONY: faults
faults: deps ## the long runs of what `test` runs shortly
	FREE2TALK_TEST_LONG=1 $(ENV) go test -race -count=1 -timeout=4h $(ARGS) $(PKG)

.PHONY: mutants
mutants: deps ## do the tests notice when a rule that keeps the cache coherent is missing?
	$(ENV) go run ./internal/mutants

.PHONY: board
board: deps ## docs/reliability.md from a run of the tests; FREE2TALK_TEST_LONG=1 make board ARGS='-run X'
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	  FREE2TALK_TEST_BOARD=$$dir $(ENV) go test -race -count=1 -timeout=4h $(ARGS) $(PKG) || echo "tests failed: the page says which"; \
	  go run ./internal/board "$$dir" > docs/reliability.md

.PHONY: bench
bench: deps ## the table of docs/performance.md, then all benchmarks; PKG=./cache/... ARGS='-count=6'
	go run ./bench
	$(ENV) go test -run='^$$' -bench=. -benchmem -timeout=2h $(ARGS) $(PKG)

.PHONY: fuzz
fuzz: ## each fuzz target for a while; FUZZTIME=10m
	@.ci/fuzz

.PHONY: proto
proto: $(NPM) ## write anew the code that comes from proto/
	$(BUF) format -w
	$(BUF) generate
	$(BUF) generate --template buf.gen.health.yaml

.PHONY: web
web: $(NPM) ## build the app into client/web/dist, which the server embeds
	$(WEB) build
	go run ./client/web/pack client/web/dist

.PHONY: fresh
fresh: proto web ## are the generated code and the built app what is committed?
	@git diff --exit-code --stat -- client/web/dist
	@git diff --exit-code -- $(GEN) proto
	@untracked=$$(git status --porcelain -- $(GEN) client/web/dist); \
	  if [[ -n $$untracked ]]; then echo "generated and not committed:"; echo "$$untracked"; exit 1; fi

.PHONY: breaking
breaking: $(NPM) ## does the contract still hold what the last release promised?
	@.ci/breaking

.PHONY: lint
lint: $(NPM) $(LINTER) ## go vet, golangci-lint, buf, tsc and svelte-check, shellcheck
	go vet ./...
	$(LINTER) run ./...
	$(LINTER) fmt --diff
	$(BUF) lint
	$(BUF) format -d --exit-code
	$(WEB) check
	@if command -v shellcheck >/dev/null; then shellcheck .ci/*; fi

.PHONY: build
build: ## the programs, static, into bin/
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/...

.PHONY: deps
deps: ## install what the tests start (Postgres, Redis, promtool) where apt-get is
	@.ci/deps postgres redis promtool

# Written by npm ci at its end, and so newer than what it was made from.
$(NPM): client/web/package-lock.json
	npm ci --prefix client/web --no-audit --no-fund

# Built from a module of its own, so that its dependencies are not ours.
$(LINTER): internal/tools/go.mod internal/tools/go.sum
	go -C internal/tools build -o $(CURDIR)/$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@
