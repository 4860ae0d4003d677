# Development targets. `make help` lists them.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= fer2013.csv
OPTIONS ?=
space := $(subst ,, )
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -n)
PIP := $(BIN)/pip --disable-pip-version-check -q
# Tests run in this many processes; each then computes in one thread. A third uses the time in which tests wait for
# servers and processes, and costs 20 seconds of imports and shared fixtures: it pays where two leave the processors idle.
WORKERS ?= 2
# A file's tests stay in one process, so that its clips, models and trainings are made once.
# Bytecode is kept, also where the environment says otherwise: more than a hundred processes would compile mien again.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OPENCV_FOR_THREADS_NUM=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

# Rooms without findings of the type checker; pyproject.toml has the same list, and checks them strictly.
TYPED := mien/core mien/data mien/evaluation mien/analysis mien/models mien/training mien/explanation mien/reproduction mien/service mien/cli

.DEFAULT_GOAL := help
.PHONY: help demo notebooks test test-slow test-browser test-all check check-js types fix docs queue bench dist clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.core  ## install the core and analyze examples/astronaut.jpg
	$(BIN)/mien analyze examples/astronaut.jpg

test: .venv/.test  ## install what the tests need and run them, without the slow ones and those that drive a browser
	$(PYTEST) -m "not slow and not browser"

test-slow: .venv/.test .venv/.strace  ## run the slow tests
	$(PYTEST) -m "slow and not browser"

test-browser: .venv/.chromium  ## drive the pages in Chromium, which is installed where there is none
	$(PYTEST) -m browser

test-all: .venv/.test .venv/.strace  ## run every test; those of the pages are skipped without Chromium
	$(PYTEST)

check: .venv/.test  ## lint, formatting, types, generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy $(TYPED)
	$(BIN)/python docs/generate.py --check
	@if command -v npm > /dev/null; then $(MAKE) --no-print-directory check-js; else echo "no npm here: the page's JavaScript is not checked"; fi

check-js: tests/js/node_modules/.made  ## check the types of the page's JavaScript; needs node and npm
	npm --prefix tests/js run --silent check

types: .venv/.test  ## check the types of the whole package
	$(BIN)/python -m mypy mien

fix: .venv/.test  ## fix what the linter and the formatter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: .venv/.docs  ## run the notebooks of examples/; with their outputs they are written to mien-out/notebooks
	$(BIN)/python docs/notebooks.py mien-out/notebooks

docs: .venv/.test  ## write docs/commands.md from the program's help, docs/reproduction.md and docs/accuracy.md from its logs
	$(BIN)/python docs/generate.py

queue: .venv/.test  ## train everything by priority, and resume after any interruption (DATA=files, OPTIONS='--status --processes 2 --include-slow ...')
	$(BIN)/mien queue --data $(subst $(space),$(space)--data ,$(DATA)) --known-results docs/reproduction $(OPTIONS)

bench: .venv/.test  ## measure speed and memory on this machine
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/people.py speed
	$(BIN)/python benchmarks/people.py track

dist: .venv/.release  ## build the wheel and the sdist into dist/, and try the wheel in a fresh environment
	rm -rf dist build .venv/trial
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv .venv/trial
	.venv/trial/bin/pip --disable-pip-version-check -q install --no-compile -c constraints.txt dist/*.whl
	cd .venv/trial && bin/mien --version && bin/mien analyze ../../examples/astronaut.jpg --out out
	rm -rf build .venv/trial
	ls -l dist

clean:  ## remove the environment and what tests and demos wrote
	rm -rf .venv tests/js/node_modules mien-out build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache

.venv/.made:
	$(PYTHON) -m venv .venv
	touch $@

# --no-compile: Python compiles a module when it is first used, and never the many that are not: 50 MB less.
.venv/.core: .venv/.made pyproject.toml constraints.txt
	$(PIP) install --no-compile -c constraints.txt -e .
	touch $@

.venv/.test: .venv/.made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[train,parquet,heic,report,explain,finish,tensorboard,serve,test]'
	touch $@ .venv/.core

.venv/.docs: .venv/.made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[train,docs]'
	touch $@ .venv/.core

.venv/.release: .venv/.made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[release]'
	touch $@ .venv/.core

tests/js/node_modules/.made: tests/js/package.json tests/js/package-lock.json
	npm --prefix tests/js ci --silent
	touch $@

# A system's own Chromium, Debian's if it has none, else the one that playwright fetches.
.venv/.chromium: .venv/.test
	command -v chromium || command -v chromium-browser || command -v google-chrome \
	  || { command -v apt-get && $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends chromium; } \
	  || $(BIN)/python -m playwright install chromium
	touch $@

# With it the tests of privacy watch the program from outside; where it cannot be installed they are skipped.
.venv/.strace: .venv/.made
	command -v strace \
	  || { command -v apt-get && $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends strace; } || true
	touch $@
