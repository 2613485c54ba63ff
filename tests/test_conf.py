"""Every shipped YAML of the `pcclip` command is understood by the code, without data or weights."""

import json
import re
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from unittest.mock import patch

import open_clip
import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback
from lightning.pytorch.strategies import ModelParallelStrategy

from data_prep.chain import parse_steps
from data_prep.steps.class_texts import ClassTexts
from pcclip.cli import main
from pcclip.data.datamodule import PairDataModule
from pcclip.data.folders import expand
from pcclip.datasets.sources import ImageSource, find_source
from pcclip.model import load_clip
from pcclip.training_cli import PairCLI

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
SHIPPED = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml"))
CALLBACKS = [path for path in SHIPPED if path.parts[0] == "callbacks"]
RUNS = [path for path in SHIPPED if re.search("^trainer:", (CONF / path).read_text(), re.M)]
AFTER = {"fsdp.yaml": "paper.yaml", "photos/roles.yaml": "photos/finetune.yaml"}  # read after another one


def test_there_is_something_to_test() -> None:
    assert CALLBACKS
    assert {Path("demo/pretrain.yaml"), Path("demo/finetune.yaml")} <= set(RUNS)


@pytest.mark.parametrize("path", RUNS, ids=str)
def test_run_is_understood(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # where people call it from
    monkeypatch.setattr("torch.set_float32_matmul_precision", lambda precision: None)  # not for the tests that follow
    command = "test" if "eval" in path.parts else "fit"
    files = [AFTER[str(path)], str(path)] if str(path) in AFTER else [str(path)]
    with (
        patch.object(PairCLI, "instantiate_classes"),
        patch.object(PairCLI, "execute", autospec=True) as run,
    ):
        main([command, *(f"--config=conf/{file}" for file in files)])
    run.assert_called_once()
    content = yaml.safe_load((CONF / path).read_text())
    parsed = run.call_args.args[0].config
    clip = parsed.model.clip
    if "optimizer" in content["model"]:  # whose own defaults hold, not those of the default optimiser's class
        optimizer = parsed.model.optimizer
        own = signature(getattr(torch.optim, optimizer.class_path.rpartition(".")[2])).parameters
        given = content["model"]["optimizer"]["init_args"]
        assert not {key for key, value in optimizer.init_args.items() if value != given.get(key, own[key].default)}
    assert "${" not in str(parsed)
    name = clip["name"]
    if name.startswith("conf/"):
        assert (ROOT / name).is_file()
    elif not name.startswith(("local-dir:", "hf-hub:")):
        assert open_clip.get_model_config(name) is not None
        tag = clip.get("pretrained")
        assert tag is None or tag in open_clip.list_pretrained_tags_by_model(name)
    PairDataModule(**parsed.data)  # whose values are checked, but whose folders are not yet read


def train_lists() -> Iterator[tuple[str, list[str]]]:
    """Name and `data.train` of each training configuration and each cell of the ablations."""
    for path in RUNS:
        if train := yaml.safe_load((CONF / path).read_text()).get("data", {}).get("train"):
            yield str(path), train
    for section in yaml.safe_load((CONF / "ablations.yaml").read_text()).values():
        for cell, settings in section["cells"].items():
            if train := (settings or {}).get("data.train"):
                yield cell, train


def test_folders_with_pictures_of_one_dataset_are_one_entry() -> None:
    for name, entries in train_lists():
        parents = [Path(folder).parent for entry in entries for folder in expand([entry])[:1]]
        assert len(set(parents)) == len(parents), name


def test_composed_texts_follow_the_others() -> None:
    lists = dict(train_lists())
    train = lists["photos/roles.yaml"]
    assert [Path(folder).name for folder in expand(train)] == ["train", "composed_0", "composed_1", "composed_2"]
    assert lists["roles"] == train


def test_datasets_are_understood() -> None:
    for path in CONF.glob("datasets/*.yaml"):
        assert isinstance(find_source(str(path)), ImageSource)


def test_texts_are_of_what_is_written_for_them() -> None:
    """The data step writes what the evaluation reads, for the same dataset."""
    content = yaml.safe_load((CONF / "eval" / "texts.yaml").read_text())
    read = str(content["tasks"]).replace("${set}", "dtd")
    chain = ["all", "--config", str(CONF / "data" / "class_texts.yaml")]
    steps = parse_steps([*chain, "--set", "dtd", "--kind", "things", "--model", "NAME"])
    assert all(step.output in read for step in steps.values() if isinstance(step, ClassTexts))


def test_weights_can_be_shared_out() -> None:
    strategy = yaml.safe_load((CONF / "fsdp.yaml").read_text())["trainer"]["strategy"]
    assert strategy["class_path"].endswith(".ModelParallelStrategy")
    ModelParallelStrategy(**strategy["init_args"])


@pytest.mark.parametrize("path", CALLBACKS, ids=str)
def test_callback_is_understood_and_used(path: Path) -> None:
    content = yaml.safe_load((CONF / path).read_text())
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--callback", type=Callback)
    assert parser.parse_object({"callback": content}).callback.class_path == content["class_path"]
    assert any(path.name in (CONF / run).read_text() for run in RUNS)


@pytest.mark.parametrize("path", sorted((CONF / "model").glob("*.json")), ids=lambda path: path.name)
def test_model_configuration_builds(path: Path) -> None:
    assert load_clip(str(path)).embed_dim == json.loads(path.read_text())["embed_dim"]
