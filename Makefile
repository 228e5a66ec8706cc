# Every target is a command that one could type; `make` shows them.
.PHONY: help test race vet check generate fixtures evidence-features evidence-effects serve-load newcomer gpu-bundle images release

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 20

test: ## all tests; real data where TEMPER_DATA points to it
	go test ./...

race: ## the packages with goroutines, under the race detector
	go test -race ./engine ./engine/cpu/kernel ./engine/gorgonia ./datasets ./adversarial/run ./adversarial/live

vet: ## gofmt, go vet and staticcheck
	@test -z "$$(gofmt -l .)" || { gofmt -l .; exit 1; }
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK) ./...

evidence-features: ## run S with five seeds and in float64: docs/paper.md's numbers, minutes
	TEMPER_EVIDENCE=1 go test -count=1 -timeout 60m -v -run 'RunS|Float64|Plateau|Reversed|Epsilon' ./adversarial/features

evidence-effects: ## what GradAlign, AWP and averaged weights bring on a few digits: docs/results/effects, minutes
	go test -tags evidence -count=1 -timeout 120m -v -run Effect ./adversarial/job

serve-load: ## 200 readers, many of them slow, of temper serve for a minute
	TEMPER_SERVE_SECONDS=60 go test -count=1 -v -run ManyReaders ./adversarial/live

newcomer: ## the README's commands, a release and a first run, in a fresh clone; TEMPER_DATA
	build/newcomer.sh

gpu-bundle: ## a folder that proves and measures temper on a GPU host: see build/bundle/README.md
	build/gpu-bundle.sh gpu-bundle

images: ## the Dockerfile's images without a container engine, as root
	python3 build/clean_root.py

release: ## binaries for Linux and macOS, checksums and bills of materials, in dist/
	go run ./build/release

check: vet test race ## most of what CI runs

generate: ## write the assembly again
	go generate ./...

fixtures: ## write the PyTorch fixtures again (needs python3 with torch)
	python3 build/oracle/make_fixtures.py

STATICCHECK ?= v0.8.2
