# `make help` lists the targets. Every target sets up what it needs; nothing has to be installed by hand but Python and make.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?=
ARGS ?=
DATA ?= data/photos
SEEDS ?= 0 1 2
PORT ?= 6006

# The demo's base, from the weights that ship with the project.
UNPACK := $(BIN)/python -m pcclip.experiments unpack_model conf/demo/base.safetensors conf/model/tiny.json
# Pretraining of the demo's base: its own pictures, captions only, then $(1)/base.
PRETRAIN = $(BIN)/pcclip-data all --config conf/data/demo.yaml --root data/demo_base --seed 100 --shapes.train 24000 && \
  $(BIN)/pcclip fit --config conf/demo/pretrain.yaml --run $(1) --overwrite true

.PHONY: help setup train demo-base data test test-slow lint format photos real-clip paper demo-seeds photos-seeds eval photos-eval ablations demo tensorboard bench bench-gpu docs clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert (3, 10) <= sys.version_info < (3, 14), "Python 3.10 to 3.13 is needed; name one: make PYTHON=python3.11 ..."'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

setup: $(VENV)/ready ## Make .venv with the pinned dependencies

train: $(VENV)/ready ## The demo from nothing to its results and runs/demo/report.html, replacing earlier ones; with CONFIG=conf/....yaml train that instead (ARGS="--trainer.devices=8 ...", RESUME=1 goes on from the last checkpoint)
ifeq ($(CONFIG),)
	@printf '4 stages, about $(if $(FROM_SCRATCH),25,4) minutes on two CPU cores\n\n1/4 world: pictures, captions, difference texts, shards\n'
	@$(BIN)/pcclip-data all --config conf/data/demo.yaml
	@printf '\n2/4 base: a tiny CLIP, pretrained on captions\n'
	@$(if $(FROM_SCRATCH),$(call PRETRAIN,runs/demo),$(UNPACK) runs/demo/base)
	@printf '\n3/4 embeddings of the pictures by the frozen image tower\n'
	@$(BIN)/pcclip-data embed --config conf/data/demo.yaml
	@printf '\n4/4 finetuning on difference texts\n'
	@$(BIN)/pcclip fit --config conf/demo/finetune.yaml --overwrite true $(ARGS)
	@printf '\nNext: `make demo`, `make tensorboard`, or open runs/demo/report.html in a browser\n'
else
	$(BIN)/pcclip fit --config $(CONFIG) $(if $(RESUME),--resume true) $(ARGS)
endif

demo-base: $(VENV)/ready ## Pretrain the demo's base and pack it as it ships, conf/demo/base.safetensors (20 minutes on one core)
	$(call PRETRAIN,runs/demo_base)
	$(BIN)/python -m pcclip.experiments pack_model runs/demo_base/base data/demo_base/shapes/train/captions.jsonl conf/demo/base.safetensors

data: $(VENV)/ready ## Captioned images to shards: make data CONFIG=conf/data/coco.yaml ARGS="--model NAME --base_url http://..." (docs/guides/data.md)
	@test -n '$(CONFIG)' || { echo "make data: CONFIG=conf/data/....yaml is missing; conf/data/coco.yaml is one to copy"; exit 2; }
	$(BIN)/pcclip-data all --config $(CONFIG) $(ARGS)

photos: $(VENV)/ready ## The same on photographs: make photos DATA=/folder/with/the/material (its layout: docs/results/photos.md)
	@test -d '$(DATA)' || { echo "make photos: $(DATA): folder not found; give the material's folder with DATA=..."; exit 2; }
	mkdir -p data/photos
	ln -sfn "$(abspath $(DATA))" data/photos/source
	$(BIN)/pcclip-data all --config conf/data/photos.yaml
	$(BIN)/pcclip fit --config conf/photos/pretrain.yaml --overwrite true
	$(BIN)/pcclip fit --config conf/photos/finetune.yaml --overwrite true $(ARGS)

# What the tables of several seeds show; each run's results.json has everything.
SPREAD := [sign_accuracy,forced_choice,forced_choice_lowest,prompt_forced_choice,caption_forced_choice,role_test,swapped_choice,$\
  spearman,share_of_ceiling,prompt_spearman,top1,text_to_image_recall10,image_to_text_recall10]

demo-seeds: $(VENV)/ready ## The demo's finetuning with SEEDS="0 1 2", after `make train`; the spread goes into docs/results/demo.md
	for seed in $(SEEDS); do \
	  $(BIN)/pcclip fit --config conf/demo/finetune.yaml --run runs/seeds/demo-$$seed --seed_everything $$seed --overwrite true \
	    --model.clip.name local-dir:runs/demo/base --data.train '[runs/demo/embedded/train]' --data.val '[runs/demo/embedded/val]'; done
	$(BIN)/python -m pcclip.experiments spread $(foreach seed,$(SEEDS),runs/seeds/demo-$(seed)/results.json) \
	  --title demo --output docs/results/demo.md --metrics '$(SPREAD)'

photos-seeds: $(VENV)/ready ## The photographs with SEEDS="0 1 2" after `make photos`; the spread goes into docs/results/photos.md
	for seed in $(SEEDS); do run=runs/seeds/photos-$$seed; \
	  $(BIN)/pcclip fit --config conf/photos/pretrain.yaml --run $$run --seed_everything $$seed --overwrite true; \
	  $(BIN)/pcclip fit --config conf/photos/finetune.yaml --run $$run --seed_everything $$seed --overwrite true; done
	$(BIN)/python -m pcclip.experiments spread $(foreach seed,$(SEEDS),runs/seeds/photos-$(seed)/results.json) \
	  --title photos --output docs/results/photos.md --metrics '$(SPREAD)'

# The last checkpoint of the newest run of an experiment.
LAST = $$(ls -t runs/$(1)/finetune/*/checkpoints/last.ckpt | head -n 1)
# A picture of comparative prompting over alpha, next to the table of results.
ALPHA_PLOT = $(BIN)/python -m pcclip.experiments factor_plot runs/$(1)/eval/results.json --task comparative_prompting \
  --subset $(2) --factor alpha --curves [top1_texts,top1_reversed,top1_shuffled,top1_random] --lines [top1_plain] \
  --output runs/$(1)/eval/comparative_prompting.png

REAL_CLIP_SPREAD := [spearman,spearman_lowest,prompt_spearman,stored_spearman,ceiling_spearman,share_of_ceiling,$\
  forced_choice,role_test,swapped_choice,top1]

real-clip: SEEDS = 0 1 2 3 4
real-clip: $(VENV)/ready ## A text tower for embeddings of real CLIP, with five SEEDS: make real-clip DATA=/folder/with/the/material; the spread goes into docs/results/real_clip.md
	@test -d '$(DATA)' || { echo "make real-clip: $(DATA): folder not found; give the material's folder with DATA=..."; exit 2; }
	mkdir -p data/real_clip
	ln -sfn "$(abspath $(DATA))" data/real_clip/source
	$(BIN)/python -m pcclip.experiments split_objects data/real_clip/source data/real_clip '[t071,t072,t073]'
	$(BIN)/pcclip-data all --config conf/data/real_clip.yaml
	for seed in $(SEEDS); do run=runs/real_clip/$$seed; \
	  $(BIN)/pcclip fit --config conf/real_clip/pretrain.yaml --run $$run --seed_everything $$seed --overwrite true; \
	  $(BIN)/pcclip fit --config conf/real_clip/finetune.yaml --run $$run --seed_everything $$seed --overwrite true; done
	$(BIN)/python -m pcclip.experiments spread $(foreach seed,$(SEEDS),runs/real_clip/$(seed)/results.json) \
	  --title real_clip --output docs/results/real_clip.md --metrics '$(REAL_CLIP_SPREAD)'

paper: $(VENV)/ready ## The paper from its official files to one page: make paper DATA=/data MODEL=ViT-L-14 ENDPOINT=http://...; DRY_RUN=1 shows stages and costs (docs/guides/paper.md)
	@BIN='$(BIN)' bash docs/paper.sh

eval: $(VENV)/ready ## The whole protocol on the embedded world's models that `make train` left: runs/demo/eval/results.md
	$(BIN)/pcclip-data shapes_eval --config conf/data/demo.yaml
	$(BIN)/pcclip-data all --config conf/data/demo_pairs.yaml
	$(BIN)/pcclip test --config conf/eval/demo.yaml
	$(BIN)/pcclip test --config conf/eval/demo.yaml --ckpt_path "$(call LAST,demo)" $(ARGS)
	$(call ALPHA_PLOT,demo,unseen/confused)
	$(BIN)/python -m pcclip.experiments factor_plot runs/demo/eval/results.json --task arithmetic --subset grid --factor lambda \
	  --curves [recall1,difference_recall1,class_means_recall1] --lines [target_recall1] --output runs/demo/eval/arithmetic.png

photos-eval: $(VENV)/ready ## The same on the photographs, after `make photos`: runs/photos/eval/results.md
	$(BIN)/pcclip test --config conf/photos/eval/photos.yaml
	$(BIN)/pcclip test --config conf/photos/eval/photos.yaml --ckpt_path "$(call LAST,photos)" $(ARGS)
	$(call ALPHA_PLOT,photos,tiny_imagenet/confused)

ablations: $(VENV)/ready ## The grid of conf/ablations.yaml on the embedded world, after `make train` (hours; can be stopped): docs/results/ablations.md
	$(BIN)/python -m pcclip.experiments ablations conf/ablations.yaml demo $(ARGS)

demo: $(VENV)/ready ## Open the page to try the models that `make train` left: rank, search, compare, classify (ARGS="--port 8000")
	@test -d runs/demo/finetuned || { echo "make demo: runs/demo/finetuned: not found; run make train first"; exit 2; }
	$(BIN)/pcclip demo data/demo/shapes/test/images data/demo/shapes/zero_shot/unseen --base runs/demo/base --vocabulary world --open true $(ARGS)

tensorboard: $(VENV)/ready ## Show all runs at http://localhost:6006 (PORT=...)
	@printf 'The numbers that matter: http://localhost:$(PORT)/?tagFilter=summary%%7Ctrain&smoothing=0#timeseries\n\n'
	$(BIN)/tensorboard --logdir runs --port $(PORT)

lint: $(VENV)/ready ## Format, lint and types, as CI checks them
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/ready ## Format the code and sort its imports
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

PYTEST := $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist worksteal

test: $(VENV)/ready ## The fast tests, offline
	$(PYTEST)

# CLIP_benchmark's own requirements would bring other versions than ours, and the test that compares with it needs none of them.
test-slow: $(VENV)/ready ## What is marked slow or distributed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps clip_benchmark==1.6.2
	$(PYTEST) -m 'slow or distributed'

BENCHMARKS := $(patsubst benchmarks/%.py,%,$(wildcard $(addprefix benchmarks/,text.py lora.py keep.py towers.py loader.py memory.py rank.py shard.py describe.py)))

bench: $(VENV)/ready ## Speed on a CPU, compared with baselines (docs/benchmarks.md)
	for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m benchmarks.$$name; done

bench-gpu: $(VENV)/ready ## Speed on a GPU: pairs per second, FLOP utilisation, memory, waiting for data
	$(BIN)/python -m benchmarks.gpu $(ARGS)

docs: $(VENV)/ready ## The documentation as a site, in build/site
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean: ## Remove what was made from the repository's files: runs, demo data, caches (keeps .venv and data/photos)
	rm -rf runs data/demo .pytest_cache .mypy_cache .ruff_cache build dist
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
