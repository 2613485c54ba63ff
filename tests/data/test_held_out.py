"""Held-out batches: every group once, the same whatever the number of processes and workers."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from pcclip.batch import PairBatch
from pcclip.callbacks import Predictions
from pcclip.data.collate import Draw
from pcclip.data.damage import DamageTally
from pcclip.data.datamodule import PairDataModule
from pcclip.data.folders import ShardFolder
from pcclip.data.held_out import HeldOutBatches
from pcclip.data.loader import EpochLoader
from tests.data.test_stream import (
    batches,
    check_truth,
    damaged_folder,
    groups_of,
    read_colour,
    read_texts,
    reasons,
    write,
)
from tests.helpers.batches import same
from tests.helpers.models import make_module
from tests.helpers.shards import group_record, image_sample, picture, write_dataset


def make(folders: list[Path], rank: int = 0, world_size: int = 1, **draw: Any) -> HeldOutBatches:
    """Batches of at most four groups."""
    settings = {"groups_per_batch": 4, "pairs_per_group": 2, "captions_per_group": 1, "fill": False, **draw}
    opened = [ShardFolder.open(str(folder), Path()) for folder in folders]
    return HeldOutBatches(opened, read_colour, read_texts, Draw(**settings), rank, world_size)  # type: ignore[arg-type]


@pytest.mark.parametrize("sizes", [[1], [13], [3, 1, 4], [5, 2]], ids=str)
def test_every_group_is_met_once_in_the_same_batches(tmp_path: Path, sizes: list[int]) -> None:
    folder = write(tmp_path / "shards", sizes)
    whole = batches(make([folder]))
    assert [group for batch in whole for group in groups_of(batch)] == list(range(sum(sizes)))
    assert len(whole) == -(-sum(sizes) // 4)
    counts = [len(groups_of(batch)) for batch in whole]
    assert max(counts) - min(counts) <= 1
    assert same(whole, batches(make([folder]), epoch=7))
    for batch in whole:
        check_truth(batch)
    for world_size in (2, 3, 5):
        streams = [make([folder], rank, world_size) for rank in range(world_size)]
        assert len({len(stream) for stream in streams}) == 1
        dealt = [batch for stream in streams for batch in batches(stream)]
        assert same([batch for batch in dealt if len(batch.image_ids)], whole)
        assert all(len(batch.first) == len(batch.captioned) == 0 for batch in dealt[len(whole) :])


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    stream = make([write(tmp_path / "shards", [9, 4])])
    loader = EpochLoader(stream, lambda: (0, 0), DamageTally(0, 39), workers, persistent=False)
    assert same(list(loader), batches(stream))


def test_shards_are_named_in_the_order_of_need(tmp_path: Path) -> None:
    folder = write(tmp_path / "shards", [3, 1, 4, 2])
    assert list(make([folder], groups_per_batch=1).shards_of(3, 3)) == [1, 2, 3]
    assert list(make([folder], 0, 2, groups_per_batch=1).shards_of(0, 0)) == [0, 1, 2]
    assert list(make([folder], 1, 2, groups_per_batch=1).shards_of(0, 4)) == [3]


def test_damaged_groups_are_left_out_without_substitutes(tmp_path: Path) -> None:
    own = batches(make([damaged_folder(tmp_path / "shards")], groups_per_batch=1, pairs_per_group=100))
    assert [groups_of(batch) for batch in own] == [[0], [], [], [3], [4], [5], [], [7]]
    assert [len(batch.first) for batch in own] == [6, 0, 0, 6, 2, 2, 0, 6]  # no pair twice
    assert reasons(own) == {"missing_record": 1, "broken_record": 1, "missing_image": 2, "broken_image": 1}


def unpaired(folder: Path) -> Path:
    """Seven groups: of the first three one has no pairs, one no captions, and one neither."""
    records = [group_record(number, 3) for number in range(7)]
    records[0]["pairs"] = records[2]["pairs"] = []
    for record in records[1:3]:
        for image in record["images"]:
            image["captions"] = []
    samples = [image_sample(number, record) for number, record in enumerate(records)]
    info = {"kind": "images", "group_size": 3, "images": 21, "pairs": 30}
    return write_dataset(folder, [samples[:3], samples[3:]], info)


def evaluate(stage: str, module: Any, data: PairDataModule, *callbacks: Any) -> Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", devices=1, callbacks=list(callbacks), **quiet)
    getattr(trainer, stage)(module, data, **({} if stage == "predict" else {"verbose": False}))
    return trainer


@pytest.mark.parametrize("loss", ["contrastive", "sigmoid", "mse"])
def test_means_are_over_all_pairs_and_captions(tmp_path: Path, loss: str) -> None:
    folder = unpaired(tmp_path / "shards")
    weights = {"caption_weight": 0.5, "sign_weight": 0.3, "keep_weight": 0.2}
    module = make_module(["all"], difference_loss=loss, **weights)  # type: ignore[arg-type]
    settings: dict[str, Any] = {"groups_per_batch": 1, "pairs_per_group": 5, "captions_per_group": 2, "num_workers": 0}
    data = PairDataModule(None, [str(folder)], **settings)
    found = evaluate("validate", module, data).callback_metrics
    assert {name: float(value) for name, value in evaluate("test", module, data).callback_metrics.items()} == {
        name.replace("val/", "test/"): float(value) for name, value in found.items()
    }
    module.eval()
    loader = data.val_dataloader()
    assert isinstance(loader, EpochLoader)
    with torch.no_grad():
        each = [(batch, module.losses(batch, alone=True)) for batch in loader if len(batch.image_ids)]
    assert [len(batch.first) for batch, _ in each] == [0, 5, 0, 5, 5, 5, 5]
    assert [len(batch.captioned) for batch, _ in each] == [2, 0, 0, 2, 2, 2, 2]
    expected = {
        name: sum(float(losses[name]) for _, losses in each if name in losses) / 5
        for name in ("difference_loss", "sign_accuracy", "sign_loss", "caption_loss", "keep_loss")
    }
    weights["difference_loss"] = 1
    expected["loss"] = sum(weight * expected[name.replace("weight", "loss")] for name, weight in weights.items())
    assert {name: float(found[f"val/{name}"]) for name in expected} == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_predict_writes_every_pair_once(tmp_path: Path) -> None:
    record = group_record(7, 3)
    del record["pairs"][0]  # (0, 1) in one direction alone
    info = {"kind": "images", "group_size": 3, "images": 3, "pairs": 5}
    odd = write_dataset(tmp_path / "odd", [[image_sample(7, record)]], info)
    folder = unpaired(tmp_path / "shards")
    module = make_module(["all"], head="mlp")
    torch.nn.init.normal_(module.model.head.output.weight)  # type: ignore[union-attr]
    data = PairDataModule(None, [str(folder), str(odd)], groups_per_batch=3, pairs_per_group=1, num_workers=0)
    file = tmp_path / "out" / "pairs.jsonl"
    evaluate("predict", module, data, Predictions(str(file)))
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 5 * 6 + 5
    assert Counter(row["shards"] for row in rows) == {str(folder): 30, str(odd): 5}
    assert [row["text"] for row in rows if row["shards"] == str(odd)] == [pair["text"] for pair in record["pairs"]]
    assert len({(row["first"], row["second"]) for row in rows}) == 35
    with torch.no_grad():
        for row in rows:
            index = {"group": int(row["group"]), "first": int(row["first"][-1]), "second": int(row["second"][-1])}
            batch = one_pair(module, **index)
            text, reverse = module.model.encode_texts([row["text"], swapped(row)])
            difference = module.model.difference(*module.embed(batch)[:, None])[0]
            assert row["cosine"] == pytest.approx(float(difference @ text), abs=2e-6)
            if (row["shards"], row["first"], row["second"]) == (str(odd), "g7i1", "g7i0"):
                assert row["reverse_cosine"] is None
            else:
                assert row["reverse_cosine"] == pytest.approx(float(difference @ reverse), abs=2e-6)


@pytest.mark.parametrize("loss", ["contrastive", "sigmoid", "mse"])
def test_the_means_of_a_diverged_model_are_nan(tmp_path: Path, loss: str) -> None:
    module = make_module(["all"], difference_loss=loss, sign_weight=0.3)  # type: ignore[arg-type]
    torch.nn.init.constant_(next(module.model.towers.visual.parameters()), torch.nan)
    data = PairDataModule(None, [str(unpaired(tmp_path / "shards"))], num_workers=0)
    for stage, prefix in (("validate", "val"), ("test", "test")):
        found = evaluate(stage, module, data).callback_metrics
        for name in ("loss", "difference_loss", "sign_loss", "sign_accuracy"):
            assert found[f"{prefix}/{name}"].isnan(), name


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_predict_refuses_cosines_that_are_not_finite(tmp_path: Path, bad: float) -> None:
    folder = unpaired(tmp_path / "shards")
    module = make_module(["all"])
    torch.nn.init.constant_(module.model.towers.text_projection, bad)
    file = tmp_path / "pairs.jsonl"
    with pytest.raises(ValueError, match=rf"30 .*{folder}.* g\d+i0, g\d+i1"):
        evaluate("predict", module, PairDataModule(None, [str(folder)], num_workers=0), Predictions(str(file)))
    assert not file.exists()


def swapped(row: dict[str, Any]) -> str:
    """The text of the reversed pair."""
    return f"the first is {row['second']}, the second is {row['first']}"


def one_pair(module: Any, group: int, first: int, second: int) -> PairBatch:
    """The two pictures of a pair, decoded as the shards' readers do."""
    images = [
        module.model.image_transform(Image.open(io.BytesIO(picture(group * 3 + place)))) for place in (first, second)
    ]
    nothing = torch.zeros(0, dtype=torch.long)
    return PairBatch(torch.stack(images), None, *[nothing] * 6)
