# Two commands do everything: `make demo` and `make test`. Both are safe to
# repeat; the virtual environment is made once and again when setup.cfg changes.
PYTHON ?= python3.11
VENV ?= .venv
WORKDIR ?= runs/demo
SMOKEDIR ?= runs/smoke
WORKERS ?= 2
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python

.PHONY: demo smoke test test-fast test-xla test-newest lint types options site \
  install wheel-test parity bench tfds-prepare clean

install: $(STAMP)

$(STAMP): setup.cfg setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(RUN) launch/train.py --config=configs/demo.py --workdir=$(WORKDIR) \
	  $(DEMO_FLAGS)
	$(RUN) launch/evaluate.py --workdir=$(WORKDIR) --split=test
	$(RUN) launch/draw_samples.py --out=$(WORKDIR)/samples --count=8
	$(RUN) launch/predict.py --workdir=$(WORKDIR) \
	  --out=$(WORKDIR)/predictions $(WORKDIR)/samples
	@echo
	@echo "report:      $(WORKDIR)/eval/test/report.html"
	@echo "pictures:    $(WORKDIR)/predictions/"
	@echo "metrics:     $(WORKDIR)/result.json"

# Four commands on real photographs: those that MTLMOE_CUB_DIR names.
smoke: $(STAMP)
	$(RUN) launch/check_data.py --data.name=cub \
	  --data.path="$(MTLMOE_CUB_DIR)" --out=$(SMOKEDIR)/check.png
	$(RUN) launch/train.py --config=configs/cub10.py --workdir=$(SMOKEDIR)/run \
	  --config.data.path="$(MTLMOE_CUB_DIR)" --config.steps=4 \
	  --config.data.image_size=96
	$(RUN) launch/evaluate.py --workdir=$(SMOKEDIR)/run
	$(RUN) launch/predict.py --workdir=$(SMOKEDIR)/run \
	  --out=$(SMOKEDIR)/predictions \
	  "$(MTLMOE_CUB_DIR)"/images/001.Black_footed_Albatross/*_00[0-1]*.jpg

test: $(STAMP)
	$(RUN) -m pytest -n $(WORKERS) --dist=worksteal -q

# What needs no whole run, other process or second device.
test-fast: $(STAMP)
	$(RUN) -m pytest -n $(WORKERS) --dist=worksteal -q tests/unit

# The tests marked `default_flags` with XLA as users have it: all others compile
# without optimising (tests/conftest.py).
test-xla: $(STAMP)
	MTLMOE_TEST_XLA=default $(RUN) -m pytest -n $(WORKERS) -q -m default_flags

# The default suite with another Python and the newest of all that setup.cfg
# allows: make test-newest PYTHON=python3.13
test-newest: .venv-newest/.installed
	.venv-newest/bin/pip list | grep -iE '^(flax|jax|jaxlib|numpy) '
	.venv-newest/bin/python -m pytest -n $(WORKERS) --dist=worksteal -q

.venv-newest/.installed: setup.cfg setup.py pyproject.toml
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/pip install --quiet --upgrade pip
	.venv-newest/bin/pip install --quiet --upgrade --upgrade-strategy eager \
	  --editable '.[dev]'
	touch $@

# Style, the order of imports (.importlinter) and the size of the house.
lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports
	$(RUN) .ci/house.py

types: $(STAMP)
	$(VENV)/bin/mypy

# The package as a user has it: built, looked into and installed where nothing
# else is.
wheel-test: $(STAMP)
	rm -rf build/wheel
	$(RUN) -m build --outdir build/wheel/dist
	$(RUN) -m twine check --strict build/wheel/dist/*
	$(PYTHON) -m venv build/wheel/venv
	$(RUN) .ci/wheel.py build/wheel/dist build/wheel/venv

# The page of all options, from their declarations.
options: $(STAMP)
	$(RUN) -m mtlmoe_jax.config.page > docs/options.md

# An environment on top of the usual one: what that has is not installed again,
# what is installed comes first.
define over_base
$(PYTHON) -m venv --clear $(1)
$(RUN) -c "import sysconfig; print('import site; site.addsitedir(%r)' \
  % sysconfig.get_path('purelib'))" > $(1)/base.pth
mv $(1)/base.pth $(1)/lib/python*/site-packages/
endef

# Comparisons with other libraries, each in an environment of its own.
# One thread each for PyTorch: there are as many tests at a time as processors.
parity: .venv-parity/.installed
	OMP_NUM_THREADS=1 .venv-parity/bin/python -m pytest -n $(WORKERS) \
	  --dist=worksteal -q -m parity

# Times this package against PyTorch into benchmarks/RESULTS.md; over an hour on
# 2 quiet cores. To go on: BENCH_FLAGS="--merge runs/benchmarks.json".
bench: .venv-parity/.installed
	.venv-parity/bin/python benchmarks/all.py \
	  --json runs/benchmarks.json $(BENCH_FLAGS)

# torchvision's own pin of torch is not heeded on purpose: it wants CUDA's. Of
# what the two validators without dependencies want, what they import: they pin
# other versions of OpenCV and NumPy.
.venv-parity/.installed: $(STAMP)
	$(call over_base,.venv-parity)
	.venv-parity/bin/pip install --quiet torch==2.13.0 frictionless==5.21.0
	.venv-parity/bin/pip install --quiet --no-deps timm==1.0.31 \
	  torchvision==0.29.1 pycocotools==2.0.11 \
	  megadetector-utils==10.0.28 jsonpickle==4.1.4 \
	  label-studio-sdk==2.1.2 appdirs==1.4.4 faker==40.63.0 ijson==3.6.0 \
	  jsf==0.11.2 lxml==6.1.3 nltk==3.10.4 pyjwt==2.13.0 regex==2026.11.19 \
	  rstr==3.2.2 smart_open==9.0.2 ujson==6.1.0 xmljson==0.2.1
	touch $@

# All pages and pictures of the suites, from their numbers.
site: $(STAMP)
	for file in docs/experiments/*.json.xz; do $(RUN) launch/reproduce.py \
	  --from=$$file --out=site/$$(basename $$file .json.xz).md || exit 1; done

tfds-prepare: .venv-tfds/.installed
	.venv-tfds/bin/python -m pytest -q -m tfds_prepare

.venv-tfds/.installed: $(STAMP)
	$(call over_base,.venv-tfds)
	.venv-tfds/bin/pip install --quiet --editable '.[tfds-prepare]'
	touch $@

clean:
	rm -rf $(VENV) .cache build site *.egg-info
