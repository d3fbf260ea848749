# `make demo` runs the robot, `make test` the tests; both set everything up first.
.PHONY: setup suites demo test fuzz faults lint types docs clean
.DEFAULT_GOAL := setup

# One thread per process: on few cores more threads fight. No download at run time. Robots of other
# machines stay out of sight.
export OMP_NUM_THREADS := 1
export HF_HUB_OFFLINE := 1
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
# Python keeps what it has compiled: nothing in .venv comes compiled, and each of the many processes that
# import PyTorch and LeRobot would compile 3,600 files anew, which takes twice as long as the import itself.
unexport PYTHONDONTWRITEBYTECODE
# A sourced ROS would put its own, differently built messages before those of .venv.
unexport PYTHONPATH PYTHONHOME LD_LIBRARY_PATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

setup:
	@scripts/setup

# .venv-suites: the same, and the task suites of others (docs/simulation.md).
suites: setup
	@scripts/suites

demo: setup
	.venv/bin/rewact demo

# In this order also under `make -j`: the cheap checks speak first. Two workers, for much of a test of nodes
# is waiting. Each takes a file at a time, whose tests share a ROS graph, in the order of their names: the
# expensive files are not the last ones. What drives a robot in real time has the machine for itself: beside
# a training it would be late, as on a robot whose computer does something else.
test: setup
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@.venv/bin/python -m pytest -m "not real_time" -n 2 --dist loadfile --no-loadscope-reorder; \
	parallel=$$?; .venv/bin/python -m pytest -m real_time; serial=$$?; exit $$((parallel | serial))

# Ever new spoilt files and messages for every reader, FUZZ_SECONDS each; a crash goes into test/fuzz/corpus.
FUZZ_SECONDS ?= 60
fuzz: setup
	FUZZ_SECONDS=$(FUZZ_SECONDS) .venv/bin/python -m pytest -q --timeout=0 test/fuzz

# Every fault on real processes, with the published trial counts; takes a while.
faults: setup
	.venv/bin/rewact bench faults

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

# The rooms are listed in pyproject.toml.
types: setup
	.venv/bin/mypy

# The documentation as a site in site/; a broken link is an error. Needs no `make setup`.
docs:
	@scripts/docs

clean:
	rm -rf build site install log *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find rewact_ros test -name __pycache__ -prune -exec rm -rf {} +
