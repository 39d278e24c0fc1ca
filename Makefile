# make demo   train, evaluate and film PPO and continual PPO on Slippery Ant (minutes)
# make test   all tests but the slow ones     make check   formatter, linter, type checker
# make slow   the slow ones (minutes)
# make bench  speed, as ratios                make learn   the learning curves of the README (an hour)
# make evidence  train what docs/evidence.md still lacks (days; stop it at any time)
# make docs   the documentation as a site, in site/
# make kills  kill and resume a run 20 times (minutes)
# make report compare three methods, three seeds each, at the quick protocol's scale (half an hour on two cores)
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo docs test slow check format bench evidence learn report kills regression mnist images benchmarks

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch $@

# The ant on PyBullet; on MuJoCo where PyBullet has no wheel.
demo: $(INSTALLED)
	rm -rf runs/demo
	@echo "Two agents, 614,400 steps each, at once: the lines below say how long it takes"
	$(BIN)/cppo train --protocol quick --algo ppo cppo --jobs 2 --output runs/demo \
		--env $$($(BIN)/python -c "import pybullet" 2>/dev/null && echo SlipperyAnt-v0 || echo SlipperyAnt-v5)
	$(BIN)/cppo report runs/demo --output runs/demo/report
	$(BIN)/cppo evaluate --compare runs/demo/*-ppo-seed0 runs/demo/*-cppo-seed0 --video videos/demo.mp4 --video-steps 300
	@echo
	@echo "PPO and continual PPO on ground whose friction was .8, then .3, then .8 again: so short a run shows that both"
	@echo "learn to walk, and no loss of plasticity yet."
	@echo "The film: videos/demo.mp4    The curves: runs/demo/report/learning_curve.png    The runs: runs/demo"

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --quiet -m "not slow"

slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --quiet -m slow

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.bench

# Each run's figures are kept in docs/evidence/*.csv once it has finished.
evidence: $(INSTALLED)
	nice -n 19 $(BIN)/python -m tests.evidence train

docs: $(INSTALLED)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file .ci/mkdocs.yml

kills: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.kills --kills 20

learn: $(INSTALLED)
	$(BIN)/python train.py --env FastAnt-v0 --algo ppo --total-timesteps 2000000 --output runs/learn-ppo & \
	$(BIN)/python train.py --env FastAnt-v0 --algo cppo-l2 --total-timesteps 2000000 --output runs/learn-cppo-l2 & wait

# Continues where it was interrupted. All runs meet the same frictions.
report: $(INSTALLED)
	$(BIN)/python train.py --protocol quick --algo ppo ppo-l2 cppo-l2 --seed 0:3 --total-timesteps 184320 --change-every 61440 \
		--friction-range 0.1 2 --learning-rate 1e-4 --schedule-seed 0 --jobs 2 --output runs/report
	$(BIN)/python -m cppo.report runs/report --film 0.8 --output report

# The tables and figures of docs/benchmarks.md; each continues where it was interrupted. JOBS settings run at once.
JOBS ?= 2
BENCHMARK := OMP_NUM_THREADS=1 $(BIN)/python -m cppo.benchmarks
ACTIVATIONS := relu tanh sigmoid leaky_relu elu swish

benchmarks: regression mnist images

regression: $(INSTALLED)  # about 1.4 core hours
	$(BENCHMARK) regression sweep --learner bp cbp linear --activation $(ACTIVATIONS) --optimizer sgd adam \
		--step-size 0.01 0.003 0.001 --replacement-rate 0.01 0.001 0.0001 --jobs $(JOBS)
	$(BENCHMARK) regression sweep --flip all --learner bp cbp linear --step-size 0.01 0.003 --jobs $(JOBS)
	$(BENCHMARK) regression sweep --steps 3000000 --learner bp cbp linear --step-size 0.01 0.003 --output runs/regression-3M --jobs $(JOBS)
	$(BENCHMARK) regression plot --results runs/regression --only flip=one
	$(BENCHMARK) regression plot --results runs/regression --only flip=one replacement-rate=0.001 --name one-rate
	$(BENCHMARK) regression plot --results runs/regression --only flip=all --name flip-all
	$(BENCHMARK) regression plot --results runs/regression-3M --only step-size=0.01 --name lost-and-kept --no-units

mnist: $(INSTALLED)  # about 1.6 core hours; the last sweep, on torch, 7 more
	$(BENCHMARK) mnist sweep --learner bp --step-size 0.01 0.003 0.001 --jobs $(JOBS)
	$(BENCHMARK) mnist sweep --learner cbp --step-size 0.003 0.01 --replacement-rate 0.001 0.0001 0.00001 --jobs $(JOBS)
	$(BENCHMARK) mnist sweep --learner adam l2 --weight-decay 0.001 0.0001 0.00001 --jobs $(JOBS)
	$(BENCHMARK) mnist sweep --learner shrink-perturb --noise 0.0001 0.00001 0.000001 --jobs $(JOBS)
	$(BENCHMARK) mnist sweep --learner bp cbp --width 300 --jobs $(JOBS)
	$(BENCHMARK) mnist plot --results runs/mnist --bin-width 5 --only width=100
	$(BENCHMARK) mnist plot --results runs/mnist --bin-width 5 --only step-size=0.003,0.0001 width=100 --name remedies
	$(BENCHMARK) mnist plot --results runs/mnist --bin-width 5 --only learner=cbp,bp step-size=0.003 --name rates
	$(BENCHMARK) mnist sweep --learner linear dropout layer-norm online-norm redo --jobs $(JOBS)
	$(BENCHMARK) mnist plot --results runs/mnist --bin-width 5 --only width=100

images: $(INSTALLED)  # about 3 core hours
	$(BENCHMARK) images sweep --learner bp --step-size 0.03 0.01 0.001 0.0001 --jobs $(JOBS)
	$(BENCHMARK) images sweep --learner cbp --step-size 0.03 --jobs $(JOBS)
	$(BENCHMARK) images sweep --learner linear l2 shrink-perturb cbp --jobs $(JOBS)
	$(BENCHMARK) images plot --results runs/images --bin-width 20
