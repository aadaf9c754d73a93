# All targets share Go's build cache.
.PHONY: test race full lint demo bench bench-http fuzz explore

test: ## what a developer runs; skips are shown with their reasons and counted
	@go test -json ./... | go run ./internal/testcount

full: ## everything, as CI does
	@HOURGLASS_TEST=full HOURGLASS_REQUIRE_ALL=1 go test -race -timeout 40m -json ./... | go run ./internal/testcount -no-skips

race:
	go test -race -timeout 40m ./...

lint:
	golangci-lint run ./...

demo:
	go run ./cmd/mcp-server demo

bench: ## wrangler and our server side by side, medians and ratios
	go run ./internal/bench

bench-http: ## a team's load over HTTP, beside a bare mcp-go server
	@go run ./internal/bench -only http

fuzz: ## every fuzz target for ten seconds
	@for p in $$(go list ./...); do \
	  for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime 10s $$p || exit 1; done; done

explore: ## the property tests on new random cases, many of them
	@for p in ./internal/cloudflare/... ./internal/deploy ./internal/session; do \
	  HOURGLASS_SEED=random HOURGLASS_TEST=full go test -count=1 -timeout 40m $$p || exit 1; done
