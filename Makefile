# `make train` runs the main job, `make test` the tests; each sets up .venv by itself, once.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
UV := $(VENV)/bin/uv
UV_VERSION := 0.13.9

# Compiled programs are kept between runs: a second start skips most of the compilation.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 1

.PHONY: help setup demo train test coverage test-all test-suites test-trackers check bench bench-peers audit toy ant payoff gpu docs lock clean

help:
	@echo "make demo      a trained policy at work, without training: its return, a 3D page, a video"
	@echo "make train     SAC and Sobolev SAC side by side on MuJoCo physics (3 to 5 minutes on 2 cores)"
	@echo "make test      the fast tests"
	@echo "make test-all  all tests, the slow ones too"
	@echo "make coverage  branch coverage of sobolax by the fast tests"
	@echo "make test-suites  tests of other people's environments, with gymnax and Playground in an environment of their own"
	@echo "make test-trackers  tests of --track with W&B, MLflow and Trackio, in an environment of their own"
	@echo "make check     formatting, lints, types, layers"
	@echo "make bench     speed: side by side, in one run, as ratios"
	@echo "make bench-peers  plain SAC beside Brax's, rejax's and SBX's, each in an environment of its own"
	@echo "make gpu       all measurements on an accelerator, within given minutes; ARGS=\"--minutes 9\", or --tiny on a CPU"
	@echo "make audit     the derivatives of an environment: error, growth, cost; ARGS=\"--env hopper\""
	@echo "make toy       critics beside a known Q*: errors of Q and its gradients, with controls (200 s of processor time)"
	@echo "make ant       the paper's experiment, SAC on Ant with gradients and without (hours on 2 cores; resumable)"
	@echo "make payoff    where gradients pay on MuJoCo tasks, with controls (ten hours on 2 cores; resumable)"
	@echo "make docs      the documentation, in site/; warnings are errors"
	@echo "make lock      resolve the dependencies anew"
	@echo "make clean     remove the environment and the caches; runs/ stays"

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"sobolax needs Python 3.11 or newer, but $(PYTHON) is {v.major}.{v.minor}: run make PYTHON=/path/to/a/newer/python3")'
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@test -x $(UV) || $(RUN) -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "Installing the locked dependencies into $(VENV)"
	@$(UV) pip sync --quiet --python $(RUN) requirements.lock
	@$(UV) pip install --quiet --python $(RUN) --no-deps --editable .
	@touch $@

demo: setup
	$(RUN) -m experiments.demo $(ARGS)

train: setup
	$(RUN) -m experiments.train $(ARGS)

# Two processes; tests/conftest.py says which files go together.
PYTEST := $(RUN) -m pytest --numprocesses 2 --dist loadfile

test: setup
	$(PYTEST) $(ARGS)

# Branch coverage of the library by the same tests.
coverage: setup
	$(PYTEST) --cov=sobolax --cov-branch --cov-report=term $(ARGS)

test-all: setup
	$(PYTEST) -m "not gpu" $(ARGS)

# What asks for other versions than the lock, in an environment of its own.
SUITES := .cache/suites
test-suites: setup
	@test -x $(SUITES)/bin/python || $(UV) venv --quiet --python $(RUN) $(SUITES)
	@$(UV) pip install --quiet --python $(SUITES)/bin/python --editable '.[envs,brax,gymnasium,gymnax,playground,experiments,test]'
	$(SUITES)/bin/python -m pytest -m "not gpu" tests/envs/test_suites.py tests/examples/test_pendulum_twin.py $(ARGS)

# The trackers are heavy, and none of them is in the lock.
TRACKERS := .cache/trackers
test-trackers: setup
	@test -x $(TRACKERS)/bin/python || $(UV) venv --quiet --python $(RUN) $(TRACKERS)
	@$(UV) pip install --quiet --python $(TRACKERS)/bin/python --editable '.[envs,experiments,test,tensorboard,wandb,mlflow,trackio,optuna]'
	$(TRACKERS)/bin/python -m pytest -m "not gpu" tests/experiments/launch/test_trackers.py tests/examples/test_optuna_weights.py tests/examples/test_wandb_weights.py $(ARGS)

check: setup
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports

bench: setup
	$(RUN) -m experiments.bench.speed $(ARGS)

bench-peers: setup
	$(RUN) -m experiments.bench.peers $(ARGS)

gpu: setup
	$(RUN) -m experiments.bench.gpu $(ARGS)

audit: setup
	$(RUN) -m experiments.studies.derivatives $(ARGS)

toy: setup
	$(RUN) -m experiments.studies.toy $(ARGS)

ant: setup
	$(RUN) -m experiments.studies.ant $(ARGS)

payoff: setup
	$(RUN) -m experiments.studies.payoff $(ARGS)

docs: setup
	$(VENV)/bin/sphinx-build --fail-on-warning --keep-going --quiet docs site
	@echo "Written to site/index.html"

lock: setup
	$(UV) pip compile pyproject.toml --extra envs --extra gymnasium --extra experiments --extra export --extra video --extra ray --extra tensorboard --extra examples \
	  --extra test --extra develop --extra docs \
	  --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --quiet \
	  --output-file requirements.lock

clean:
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache dist site
