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

# What the embedded world's stages leave behind; each is made once and again when what it is made from changes.
DEMO_DATA := data/demo/shards/train/dataset.json
DEMO_BASE := runs/demo/base/open_clip_model.safetensors
SOURCES := $(shell find pcclip data_prep -name '*.py' 2>/dev/null)

.PHONY: help setup train test test-slow lint format photos demo-seeds photos-seeds tensorboard clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert (3, 10) <= sys.version_info < (3, 14), "Python 3.10 to 3.13 is needed; name one: make PYTHON=python3.11 ..."'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

setup: $(VENV)/ready ## Make .venv with the pinned dependencies
