# Two commands do everything: `make demo` and `make test`. Both are safe to
# repeat; the virtual environment is made once and again when setup.cfg changes.
PYTHON ?= python3.11
VENV ?= .venv
WORKDIR ?= runs/demo
WORKERS ?= 2
STAMP := $(VENV)/.installed
RUN := $(VENV)/bin/python

.PHONY: demo test lint options install parity bench tfds-prepare site clean

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)
	$(RUN) launch/train.py --config=configs/demo.py --workdir=$(WORKDIR) $(DEMO_FLAGS)
	$(RUN) launch/evaluate.py --workdir=$(WORKDIR) --split=test
	$(RUN) launch/draw_samples.py --out=$(WORKDIR)/samples --count=8
	$(RUN) launch/predict.py --workdir=$(WORKDIR) \
	  --out=$(WORKDIR)/predictions $(WORKDIR)/samples
	@echo
	@echo "report:      $(WORKDIR)/eval/test/report.html"
	@echo "pictures:    $(WORKDIR)/predictions/"
	@echo "figures:     $(WORKDIR)/result.json"

test: $(STAMP)
	$(RUN) -m pytest -n $(WORKERS) --dist=worksteal -q

lint: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# The page of all options, from their declarations.
options: $(STAMP)
	$(RUN) -m mtlmoe_jax.config.page > docs/options.md

# Comparisons with other libraries, each in an environment of its own.
parity: .venv-parity/.installed
	.venv-parity/bin/python -m pytest -q -m parity

# Times this package against PyTorch into benchmarks/RESULTS.md; over an hour on
# 2 quiet cores. To go on: BENCH_FLAGS="--merge runs/benchmarks.json".
bench: .venv-parity/.installed
	.venv-parity/bin/python benchmarks/all.py \
	  --json runs/benchmarks.json $(BENCH_FLAGS)

# torchvision's own pin of torch is not heeded on purpose: it wants CUDA's.
.venv-parity/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-parity
	.venv-parity/bin/pip install --quiet torch==2.13.0
	.venv-parity/bin/pip install --quiet --no-deps timm==1.0.31 \
	  torchvision==0.29.1
	.venv-parity/bin/pip install --quiet --editable '.[dev]' \
	  huggingface_hub pyyaml
	touch $@

# All pages and pictures of the poster's experiments, from their numbers.
site: $(STAMP)
	for data in synthetic cub10; do $(RUN) launch/reproduce.py \
	  --from=docs/experiments/$$data.json --out=site/$$data.md || exit 1; done

tfds-prepare: .venv-tfds/.installed
	.venv-tfds/bin/python -m pytest -q -m tfds_prepare

.venv-tfds/.installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv-tfds
	.venv-tfds/bin/pip install --quiet --editable '.[dev,tfds-prepare]'
	touch $@

clean:
	rm -rf $(VENV) .cache build *.egg-info
