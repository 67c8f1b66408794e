# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= vidkit-demo

.PHONY: install demo pictures test lint docs guide-commands wheel regress slow fuzz full-composite label-fraction ladder verdicts mann-selftest masks meta bench cuda clean

install: $(VENV)/.installed

# torch, torchvision and timm agree only as a set, so everything is installed in one go
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

# clips -> dataset -> pre-trained -> fine-tuned -> tested; each step goes on where it was stopped
demo: install $(DEMO)-clips
	$(BIN)/vidkit build-dataset demo --demo $(DEMO)-clips --out $(DEMO)
	$(BIN)/vidkit verify $(DEMO)
	$(BIN)/vidkit inspect $(DEMO) --sheet $(DEMO)-sheet.png
	$(BIN)/vidkit pretrain --data $(DEMO) --out $(DEMO)-runs/pretrain --recipe tiny --resume
	$(BIN)/vidkit finetune --data $(DEMO) --out $(DEMO)-runs/finetune --recipe tiny --resume \
		--init $(DEMO)-runs/pretrain/checkpoints/last.pt
	$(BIN)/vidkit evaluate --data $(DEMO) --checkpoint $(DEMO)-runs/finetune/checkpoints/best.pt --split test \
		--out $(DEMO)-runs/test.parquet
	$(BIN)/vidkit masks --data $(DEMO) --checkpoint $(DEMO)-runs/pretrain/checkpoints/last.pt --out $(DEMO)-masks.png
	$(BIN)/vidkit fewshot --data $(DEMO) --init $(DEMO)-runs/pretrain/checkpoints/last.pt --shares 50/0/50 \
		--way 5 --shot 5 --query 5 --learner linear --learner proto --learner simpleshot --learner otam
	@echo
	@echo "Look at it:  $(BIN)/vidkit view $(DEMO) $(DEMO)-runs"

$(DEMO)-clips: | install
	$(BIN)/vidkit synth demo --out $@ --clips 1200

# the guide's pictures of `vidkit view`, in docs/guide/pictures; needs a Chromium
pictures: demo
	VIDKIT_PICTURES="$(DEMO) $(DEMO)-runs" $(BIN)/python -m pytest -q tests/view/web/test_pictures.py

# on all cores; the tests of a file share what is costly to make, so they stay together
test: install
	$(BIN)/python -m pytest -n auto --dist loadscope --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_docs.py

# the guide as a site in site/, which opens from a disk; a broken link or reference is an error
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# every command of the guide that takes long and needs neither real data nor a GPU; about ten minutes on 2 cores
guide-commands: install
	$(BIN)/python -m pytest -m slow tests/guide

# the wheel, installed alone into an empty environment of $(PYTHON), and tried out there
wheel:
	.ci/wheel $(PYTHON)

# tokens, MACs, memory, shards, losses and ratios of speed against those kept in the repository; part of CI
regress: install
	$(BIN)/vidkit bench regress --baseline benchmarks/results/regress.json

# minutes long; not part of CI
slow: install
	$(BIN)/python -m pytest -m slow

# hostile annotations and media for minutes; a failure prints how to repeat it
fuzz: install
	$(BIN)/python -m pytest -m slow tests/fuzz

# 24,927 generated clips of the published sizes; about half an hour and 2 GB on 2 cores
full-composite: install
	$(BIN)/python -m benchmarks.full_composite

# a pre-trained encoder against one from scratch, 1 to 100 % of the labels, 5 paired seeds; 75 minutes on one core
label-fraction: install
	$(BIN)/python -m benchmarks.label_fraction --work vidkit-labels

# how hard the first levels of the generated motions are; half an hour on one core
ladder: install
	$(BIN)/python -m benchmarks.ladder --work vidkit-ladder --level 1 --level 2 --level 3

# nine masks at 95 %, six at 90 %, 5 paired seeds: a verdict for each contrast; two hours and a half on one core
verdicts: install
	$(BIN)/vidkit ablate --preset verdicts --out vidkit-verdicts --resume --steps 0 --at 25 \
		--measure ridge --measure knn --measure common-error \
		--set pretrain.optim.epochs=10 --set pretrain.optim.warmup_epochs=1

# does the memory-augmented network learn, as published; a quarter of an hour on one core
mann-selftest: install
	$(BIN)/python -m benchmarks.mann_selftest

# four masks at five ratios, 3 seeds, on generated clips; an hour and a half of CPU time
masks: install
	$(BIN)/vidkit ablate --preset masks --seed 0 --seed 1 --seed 2 --out vidkit-masks --resume --steps 0 \
		--set pretrain.model.encoder.frames=4 --set pretrain.model.encoder.patch=8 \
		--set pretrain.optim.epochs=12 --set finetune.optim.epochs=12

# MANN, blackbox, MAML, TRX, prototypes and others on unseen classes, 5 paired seeds; an hour and a half on one core
meta: install
	$(BIN)/vidkit ablate --preset meta --seed 0 --seed 1 --seed 2 --seed 3 --seed 4 --out vidkit-meta --resume

bench: install
	$(BIN)/python -m benchmarks.bench_build
	$(BIN)/python -m benchmarks.bench_loader
	$(BIN)/python -m benchmarks.bench_pretrain

# needs an NVIDIA GPU; the tables go on where they were stopped
cuda: install
	$(BIN)/python -m pytest -m cuda
	$(BIN)/python -m benchmarks.cuda.tables
	$(BIN)/python -m benchmarks.cuda.ablation --work vidkit-cuda

clean:
	rm -rf site dist vidkit-labels vidkit-ladder vidkit-verdicts vidkit-cuda vidkit-masks vidkit-meta $(VENV) $(DEMO) $(DEMO)-clips $(DEMO)-clips.part $(DEMO)-runs $(DEMO)-sheet.png $(DEMO)-masks.png
