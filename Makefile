# Everything builds .venv by itself when it is missing or older than the pinned requirements.
PYTHON ?= python3
BIN    := .venv/bin
# Ray's uv hook would rebuild the environment for every worker; the project always runs its own interpreter.
export RAY_ENABLE_UV_RUN_RUNTIME_ENV := 0

PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder --durations 15 \
	--numprocesses $$($(BIN)/python -c 'import os; print(min(8, 1 + (os.cpu_count() or 1)))')

.PHONY: $(shell grep -oE '^[a-z-]+:' $(MAKEFILE_LIST) | tr -d :)

# Once before many processes do it at the same time: Python compiles what it imports, a quarter of what is installed.
IMPORTED := import timm, ray.tune, optuna, pandas, sklearn.datasets, search.runner, search.analysis, search.export

help:  ## what there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 18

setup: .venv/.synced  ## build .venv from the pinned, hashed requirements

.venv/.synced: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Attune needs Python >= 3.11; choose one with PYTHON=python3.12 make ..." >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip sync --quiet --require-hashes --python $(BIN)/python requirements.txt
	$(BIN)/python -c '$(IMPORTED)'
	@touch $@

search: setup  ## search the embedded default task and print its Pareto front
	$(BIN)/python run_search.py

# One process more than there are cores, with one thread each, since the tests with a real Ray wait for its processes to start;
# the tests of a file stay together and share what they built, those with a Ray share that; tests/conftest.py puts slow ones first.
test: setup  ## run the tests
	$(PYTEST) -m "not matrix"

test-matrix: setup  ## what `make test` runs samples of: every family, type and format, and more searches with real faults
	$(PYTEST) -m matrix

lint: setup  ## ruff, the type checker, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# mutmut remembers what it has tried, and tries again what has changed; with mutants/ removed it tries everything.
mutation: setup  ## change the arithmetic and the store in small ways: do their tests notice? takes long, resumable
	OMP_NUM_THREADS=1 $(BIN)/python -m mutmut run
	$(BIN)/python -m benchmarks.mutation --markdown

format: setup  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: setup  ## the documentation as a site, in build/docs; warnings and broken links fail it (extra `docs`)
	$(BIN)/python -m sphinx -q -E -W --keep-going -n -b html docs build/docs
	@echo build/docs/index.html

lock: setup  ## pin and hash the requirements anew
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --extra dev --extra docs --no-emit-index-url \
		--no-emit-find-links --custom-compile-command "make lock" pyproject.toml -o requirements.txt

bench-default-task: setup  ## do placements matter on the embedded task? architectures against seeds
	$(BIN)/python -m benchmarks.default_task --markdown

bench-samplers: setup  ## our samplers and Optuna's on tables, hypervolume against evaluations
	$(BIN)/python -m benchmarks.samplers --table macro
	$(BIN)/python -m benchmarks.samplers --table additive rugged placements --mark synthetic --markdown

bench-generated: setup  ## tables drawn from seeds, the half that nothing was chosen by: ours, TPE and NSGA-II
	$(BIN)/python -m benchmarks.samplers --table $(foreach n,1 3 5 7 9 11 13 15 17 19 21 23,generated_$(n)) \
		--samplers known_cost tpe nsga2 --seeds 4 --brief --mark generated --markdown

bench-peers: setup  ## the same against BoTorch, SMAC, pymoo, MO-BANANAS and Optuna's GP (group `peers`); hours
	$(BIN)/python -m benchmarks.samplers --table macro --mark peers --markdown \
		--samplers known_cost random nsga2 nsga3 tpe gp evolution pymoo botorch smac banana

bench-attune: setup  ## our samplers, Optuna's and the peers that are installed on Attune-Bench
	$(BIN)/python -m benchmarks.samplers --table attune_bench --mark attune --markdown \
		--samplers known_cost random nsga2 nsga3 tpe gp evolution pymoo botorch smac banana

bench-suggestion: setup  ## seconds of one suggestion at 500 finished trials
	$(BIN)/python -m benchmarks.samplers --suggestion --mark suggestion --markdown

bench-searcher: setup  ## seconds of a suggestion on every shipped configuration, through the study on disk
	$(BIN)/python -m benchmarks.searcher --markdown

bench-flight: setup  ## 1, 2, 16 and 256 evaluations at a time: the hypervolume at equal evaluations
	$(BIN)/python -m benchmarks.flight --markdown

bench-calibration: setup  ## over 200 simulated runs: do 95 % intervals hold the truth, do said probabilities happen?
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.calibration --runs 200 --markdown

bench-early-stopping: setup  ## epochs saved by stopping dominated trials
	$(BIN)/python -m benchmarks.early_stopping --markdown

bench-orchestration: setup  ## what Ray, the study and the store cost per empty trial
	$(BIN)/python -m benchmarks.orchestration --long 5000 --markdown

bench-faults: setup  ## 20 random kills and 60 at chosen instants: evaluations lost and repeated
	$(BIN)/python -m benchmarks.faults --markdown

bench-end-to-end: setup  ## the default against random and plain Ray Tune with Optuna at equal wall time
	$(BIN)/python -m benchmarks.end_to_end --markdown

bench-throughput: setup  ## the training evaluator against a DataLoader loop; resnet18 and the page need ATTUNE_DATA
	$(BIN)/python -m benchmarks.throughput $(if $(ATTUNE_DATA),--cifar hf:$(ATTUNE_DATA)/cifar10_jpeg --markdown)

bench-segmentation: setup  ## the training evaluator against the loop of torchvision's segmentation references
	$(BIN)/python -m benchmarks.segmentation --markdown

bench-bccd: setup  ## detection on photographs of blood cells, the whole way, and torchvision's recipe; needs ATTUNE_DATA
	$(BIN)/python -m benchmarks.real_data bccd --data $(ATTUNE_DATA)/bccd --markdown

bench-camvid: setup  ## segmentation of road scenes, the whole way, and torchvision's recipe; needs ATTUNE_DATA
	$(BIN)/python -m benchmarks.real_data camvid --data $(ATTUNE_DATA)/camvid_small --markdown

bench-fine-tuning: setup  ## identity start against fresh gates; needs ATTUNE_DATA
	$(BIN)/python -m benchmarks.fine_tuning --source hf:$(ATTUNE_DATA)/tiny_imagenet100_32 \
		--target hf:$(ATTUNE_DATA)/imagewoof_64 --markdown

bench-gpu-all: setup  ## everything that needs a GPU: 25 minutes on one card at most, resumable
	$(BIN)/python -m benchmarks.gpu --cifar $(if $(ATTUNE_DATA),hf:$(ATTUNE_DATA)/cifar10_jpeg,cifar10) --markdown

bench-table: setup  ## train Attune-Bench, 729 architectures x 3 seeds: an hour and a half on two cores, resumable
	$(BIN)/python -m benchmarks.attune_bench --markdown

bench-supernet: setup  ## does the supernet order architectures as standalone training does?
	$(BIN)/python -m benchmarks.supernet --markdown

bench-backbones: setup  ## stages, sites and insertion over every convolutional network of timm
	$(BIN)/python -m benchmarks.backbones --markdown

bench-costs: setup  ## cost look-ups against fvcore, building the table, budgets over a trillion architectures
	$(BIN)/python -m benchmarks.costs --markdown

bench-latency: setup  ## the additive latency estimate against whole networks
	$(BIN)/python -m benchmarks.latency --markdown

bench-memory: setup  ## the estimate of a training's memory against its measured peak
	$(BIN)/python -m benchmarks.memory --markdown

bench-attention: setup  ## attention modules against timm and the plain forms of published code
	$(BIN)/python -m benchmarks.attention --docs

bench-report: setup  ## seconds to write the report of 5,000 evaluations, and to open it
	$(BIN)/python -m benchmarks.report --markdown

bench: bench-attention bench-backbones bench-calibration bench-generated bench-costs bench-default-task bench-early-stopping bench-end-to-end bench-faults bench-flight bench-orchestration bench-samplers bench-searcher bench-suggestion bench-supernet \
	bench-throughput bench-report bench-latency bench-memory  ## every benchmark, one after the other
