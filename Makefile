# Two commands do everything on a fresh machine with Python ≥ 3.11, make and git: make demo, make test.

PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# So many tests at once; 0 for one after the other.
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1); [ $$n -gt 4 ] && echo 4 || echo $$n)

.PHONY: demo test coverage test-boards test-faults test-large test-ssh unit lint lock build clean

demo: .venv/ready  ## Set up and measure the digits study on this machine.
	@# 4: on a busy machine, the time may be up before everything is known as closely as asked; the tables say so.
	$(BIN)/harness run || [ $$? -eq 4 ]

test: .venv/ready lint  ## Set up and run the tests; the other targets have those that take long.
	sh tests/set_up_ssh.sh
	$(PYTEST) -n $(JOBS) -m "not boards and not faults and not large and not long"

coverage: .venv/ready  ## Run the tests of make test, and print which lines and branches they miss; fails below 90 %.
	$(BIN)/coverage erase
	$(MAKE) test PYTEST="$(BIN)/coverage run -m pytest"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-boards: .venv/ready  ## Boot virtual ARM boards and run a study there; builds their image once, as root.
	sh tests/set_up_boards.sh
	$(PYTEST) -m boards

test-large: .venv/ready  ## Make and measure models of more than 2 GB: 12 GB of memory and of disk.
	$(PYTEST) -m large

test-faults: .venv/ready  ## Break links, disks and processes of a real OpenSSH server in the middle of runs; and the tests that take longest.
	sh tests/set_up_ssh.sh
	$(PYTEST) -n $(JOBS) -m "(faults or long) and not boards"

test-ssh: .venv/ready  ## Only the tests that need a real OpenSSH server.
	sh tests/set_up_ssh.sh
	$(PYTEST) -m ssh

unit: .venv/ready  ## Only the fast tests, which need no server.
	$(PYTEST) -m "not ssh and not slow and not boards and not faults and not large and not long"

lint: .venv/ready  ## Style, types, and Python 3.9 for the programs of a device.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/vermin --quiet --no-tips --violations --target=3.9- runners

.venv/ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it, or say where it is: make PYTHON=/path/to/python3" >&2; exit 2; }
	$(PYTHON) -m venv .venv || { echo "making .venv failed: on Debian and Ubuntu, install the python3-venv package" >&2; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch .venv/ready

lock:  ## Write requirements.lock anew from pyproject.toml (needs uv).
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --upgrade \
		pyproject.toml --group dev --output-file requirements.lock

build: .venv/ready  ## The wheel, in dist/.
	$(BIN)/python -m hatchling build -t wheel

clean:
	rm -rf .venv dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
