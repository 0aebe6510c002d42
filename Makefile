# make demo and make test do all set-up: a virtual environment in .venv with the versions of constraints.txt.

PYTHON := $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$p && break; done)
RUN := .venv/bin
DEMO_DIR := demo

.PHONY: demo test test-fast test-arm soak nightly wheel-test serving-test serving-model site lint bench bench-engines bench-grid bench-models study study-latency study-quick clean

demo: .venv/ready  ## the whole way on a real model: report in demo/report.html
	rm -rf $(DEMO_DIR)
	$(RUN)/tvm-balanced demo --out $(DEMO_DIR)

# Python keeps what it compiles, whatever the environment says: each process of tests, and each that a test starts, would do it anew.
export PYTHONDONTWRITEBYTECODE =

# Tests run in one process more than there are cores, up to four, since some wait for others that they start; those of one group
# (xdist_group) in one, one after the other.
PROCESSES := $(shell expr $$(nproc) + 1)
PYTEST := $(RUN)/python -m pytest --numprocesses $(PROCESSES) --maxprocesses 4 --dist loadgroup --durations 10

test: .venv/ready  ## all tests, of grids a part with every value; OPTIONS=--cpu-times lists what takes long
	$(PYTEST) $(OPTIONS)

test-fast: .venv/ready  ## all but the slow ones
	$(PYTEST) -m "not slow" $(OPTIONS)

# The runtime of aarch64 from the package index; needs Debian's g++-aarch64-linux-gnu, qemu-user and nlohmann-json3-dev.
ARM := build/aarch64

test-arm: .venv/ready  ## kernels and bundles for 64-bit ARM, cross-compiled and run by qemu
	test -d $(ARM) || $(RUN)/python -m pip install --quiet --constraint constraints.txt --target $(ARM) --no-deps \
		--platform manylinux_2_28_aarch64 --only-binary=:all: apache-tvm apache-tvm-ffi
	TVM_BALANCED_AARCH64=$(abspath $(ARM)) $(RUN)/python -m pytest tests/schedules/kernels/test_cpu_neon.py tests/schedules/kernels/test_cpu_neon_i8.py

soak: .venv/ready  ## the tests of tuning runs twenty times in a row: killed, resumed and interrupted, they must never flicker
	for run in $$(seq 20); do $(RUN)/python -m pytest -q tests/tuning/test_tune.py || exit 1; done

nightly: .venv/ready  ## the same with more cases, tests that take minutes each, and 10^6 random inputs
	TVM_BALANCED_NIGHTLY=1 $(PYTEST) $(OPTIONS)
	$(RUN)/python -m benchmarks.reliability inputs

wheel-test: .venv/ready  ## builds wheel and sdist, and runs the README where nothing but the wheel is installed: minutes, downloads
	TVM_BALANCED_INSTALL=1 $(RUN)/python -m pytest tests/packaging

serving-test: .venv/ready  ## the service of examples/serving, installed and started as its Containerfile says: minutes, downloads
	TVM_BALANCED_INSTALL=1 $(RUN)/python -m pytest tests/serving

serving-model: build/serving/model  ## what the service serves, pruned and compiled

build/serving/model: .venv/ready
	$(RUN)/python examples/serving/make_artifact.py $@ $(OPTIONS)

site: .venv/docs  ## the pages of docs/ and the docstrings as a site in build/site
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict

lint: .venv/ready  ## ruff and mypy
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

bench: .venv/ready  ## the kernel benchmark's acceptance cells
	$(RUN)/python -m benchmarks.kernels

bench-engines: .venv/bench  ## the kernel beside MKL, ONNX Runtime, OpenVINO, torch.compile and DeepSparse
	$(RUN)/python -m benchmarks.engines $(OPTIONS)

bench-grid: .venv/ready  ## the acceptance grid, three times; OPTIONS="--minutes 60" stops, and goes on when called again
	$(RUN)/python -m benchmarks.grid $(OPTIONS)

study-quick: .venv/ready  ## what pruning costs MiniLM and three small models; goes on where it stopped
	$(RUN)/python -m benchmarks.study --quick $(OPTIONS)

study: .venv/ready  ## the same with all 4000 queries, distillation, more patterns and seeds: hours
	$(RUN)/python -m benchmarks.study --steps 2260 $(OPTIONS)

study-latency: .venv/ready  ## MiniLM's times at each pattern, in float32 and int8, beside the quality
	$(RUN)/python -m benchmarks.study.latency $(OPTIONS)

bench-models: .venv/ready  ## whole models beside PyTorch, and where their time goes
	$(RUN)/python -m benchmarks.models --profile $(OPTIONS)

.venv/ready: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 was not found; install one of them"; exit 1; }
	test -x $(RUN)/python || $(PYTHON) -m venv .venv
	$(RUN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

.venv/docs: .venv/ready
	$(RUN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

.venv/bench: .venv/ready
	$(RUN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	touch $@

clean:  ## remove what the other targets made
	rm -rf .venv build $(DEMO_DIR) *.egg-info
