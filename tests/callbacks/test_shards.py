"""Evaluation on shard folders."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

from pcclip.callbacks.attribute_ranking import AttributeRanking, AttributeSet
from pcclip.callbacks.difference_texts import DifferenceTexts
from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.callbacks.results import ResultsTable
from pcclip.callbacks.retrieval import Retrieval
from pcclip.data.format import DatasetInfo, EmbeddingInfo, ShardInfo
from pcclip.data.shard_index import named_in, read_shard_index, texts_in
from pcclip.metrics.protocol import Result

GROUPS = [["a", "b", "c", "d"], ["e", "a", "f"]]  # `a` is dealt into both
LEVELS = {name: 40 * place for place, name in enumerate("abcdef")}


def text(first: str, second: str) -> str:
    return f"the first is {'brighter' if LEVELS[first] > LEVELS[second] else 'darker'} than the second"


def write_shards(
    folder: Path,
    embeddings: torch.Tensor | None = None,
    damage: bool = False,
    made_by: str = "",
    write_text: Callable[[str, str], str] = text,
) -> Path:
    """One shard of two groups; pair b-d is given in one direction only. `made_by` is the embeddings' fingerprint."""
    folder.mkdir()
    names = list(LEVELS)
    with tarfile.open(folder / "00000.tar", "w") as archive:

        def add(name: str, content: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        for key, ids in enumerate(GROUPS):
            for place, name in enumerate(ids):
                stream = io.BytesIO()
                Image.new("RGB", (8, 8), (LEVELS[name],) * 3).save(stream, "PNG")
                if embeddings is None:
                    damaged = damage and name == "c"
                    add(f"{key:08d}.{place:02d}.png", stream.getvalue()[: 50 if damaged else None])
            if embeddings is not None:
                stream = io.BytesIO()
                np.save(stream, embeddings[[names.index(name) for name in ids]].half().numpy())
                add(f"{key:08d}.embeddings.npy", stream.getvalue())
            ordered = [(0, 1), (1, 0), (2, 0), (0, 2), *([(1, 3)] if key == 0 else [])]
            record = {
                "images": [{"id": name, "captions": [f"a photo of {name}"]} for name in ids],
                "pairs": [{"first": i, "second": j, "text": write_text(ids[i], ids[j])} for i, j in ordered],
            }
            add(f"{key:08d}.json", json.dumps(record).encode())
    tar = folder / "00000.tar"
    shard = ShardInfo(tar.name, 2, tar.stat().st_size, hashlib.sha256(tar.read_bytes()).hexdigest())
    tower = None if embeddings is None else EmbeddingInfo("tiny", 8, made_by)
    kind = "images" if embeddings is None else "embeddings"
    DatasetInfo(kind, 4, 7, 9, [shard], tower).write(folder)  # type: ignore[arg-type]
    return folder


def rows(callbacks: Sequence[EvaluationCallback]) -> dict[tuple[str, str], Result]:
    return {(row.task, row.metric): row for callback in callbacks for row in callback.rows}


def test_index(tmp_path: Path) -> None:
    index = read_shard_index(write_shards(tmp_path / "shards"))
    assert list(index.ids) == list("abcdef")
    assert index.captions[4] == ["a photo of e"]
    pairs = [("abcdef"[one], "abcdef"[other]) for one, other in zip(index.first, index.second, strict=True)]
    assert pairs == [("a", "b"), ("c", "a"), ("e", "a"), ("f", "e")]
    assert index.texts == [text(*pair) for pair in pairs]
    assert index.reverses == [text(*reversed(pair)) for pair in pairs]
    assert [image.key for image in index.images] == [
        "00000000.00", "00000000.01", "00000000.02", "00000000.03", "00000001.00", "00000001.02",
    ]  # fmt: skip


def test_images_and_embeddings_give_the_same(
    tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    module = make_module()
    levels = torch.tensor(list(LEVELS.values()), dtype=torch.uint8)
    with torch.no_grad():
        embeddings = module.model.encode_images(levels[:, None, None, None].expand(-1, 3, 4, 4))
    found = []
    embedded = write_shards(tmp_path / "embedded", embeddings, made_by=module.model.image_fingerprint)
    for folder in (write_shards(tmp_path / "images"), embedded):
        callbacks = [DifferenceTexts({"held": str(folder)}), Retrieval({"held": str(folder)})]
        make_trainer(callbacks).test(make_module(), verbose=False)
        found.append(rows(callbacks))
    assert found[0] == found[1]
    assert found[0]["difference_texts", "forced_choice"].n == 4
    assert found[0]["retrieval", "text_to_image_recall5"].n == 6
    assert found[0]["retrieval", "text_to_image_recall1"].subset == "held"


def test_damaged_image_takes_its_pairs_along(
    tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    folder = str(write_shards(tmp_path / "shards", damage=True))
    callbacks = [DifferenceTexts({"held": folder}), Retrieval({"held": folder})]
    with pytest.warns(UserWarning, match="held: 1 of 6 images are damaged"):
        make_trainer(callbacks).test(make_module(), verbose=False)
    assert rows(callbacks)["difference_texts", "forced_choice"].n == 3
    assert rows(callbacks)["retrieval", "image_to_text_recall1"].n == 5


def test_pairs_without_training_texts_are_also_measured_alone(
    tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    def held(first: str, second: str) -> str:
        return f"the first has {first}, the second {second}"

    def trained(first: str, second: str) -> str:
        return f"the second has {first}, the first {second}" if "e" not in (first, second) else "the first is new"

    train = str(write_shards(tmp_path / "train", write_text=trained))
    folder = str(write_shards(tmp_path / "held", write_text=held))
    evaluation = DifferenceTexts({"held": folder, "same": train}, training=[train])
    with pytest.warns(UserWarning, match="same"):
        make_trainer([evaluation]).test(make_module(), verbose=False)
    pairs = {row.subset: row.n for row in evaluation.rows if row.metric == "forced_choice"}
    assert pairs == {"held": 4, "held/new_texts": 2, "same": 4}  # (e, a) and (f, e)


def test_names_in_captions_or_texts(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", write_text=lambda first, second: f"Two Foxes and a sea-slug, {first}")
    assert texts_in([folder]) >= {"a photo of e", "Two Foxes and a sea-slug, e"}
    assert named_in(["fox", "sea", "slug", "photos", "photo of", "lug", "Two fox", "two ox"], [folder]) == {
        "fox", "sea", "slug", "photo of", "Two fox",
    }  # fmt: skip


def test_plurals_of_names(tmp_path: Path) -> None:
    text = "Butterflies on leaves, wolves, a monkey with knives, elves and toys"
    folder = write_shards(tmp_path / "shards", write_text=lambda first, second: f"{text}, {first}")
    names = {"butterfly", "leaf", "wolf", "monkey", "knife", "toy"}
    assert named_in([*names, "el", "wol", "fly", "toi", "kni", "monk"], [folder]) == names


def test_classes_that_training_texts_name_are_left_out(
    tmp_path: Path, world: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    table, folder = tmp_path / "classes.csv", tmp_path / "shards"
    table.write_text("name,brightness\nred,1\ngreen,2\nblue,3\n")
    for words, classes in (("greens", 2), ("reds, greens and blues", None)):
        write_shards(folder, write_text=lambda first, second, words=words: f"{words} {first} {second}")  # type: ignore[misc]
        settings = AttributeSet(
            images=str(world / "classes"),
            table=str(table),
            texts=str(world / "texts.yaml"),
            key="name",
            level="class",
            not_named_in=[str(folder)],
        )
        evaluation = AttributeRanking({"unnamed": settings})
        if classes is None:
            with pytest.raises(ValueError, match=r"classes.csv.*not_named_in.*unnamed"):
                evaluation.prepare()
            continue
        make_trainer([evaluation]).test(make_module(), verbose=False)
        assert {row.n for row in evaluation.rows if row.metric == "spearman"} == {classes}
        shutil.rmtree(folder)


def test_embeddings_of_another_tower_are_refused(
    tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    module = make_module()
    folder = write_shards(tmp_path / "shards", torch.rand(6, 8), made_by=module.model.image_fingerprint)
    with torch.no_grad():
        module.model.visual.weight += 1
    with pytest.raises(ValueError, match=r"made by another image tower .*pcclip-data embed"):
        make_trainer([DifferenceTexts({"held": str(folder)})]).fit(module)
    with pytest.raises(ValueError, match="the image tower trains"):
        make_trainer([DifferenceTexts({"held": str(folder)})]).fit(make_module(frozen=False))


def test_embeddings_do_not_serve_blended_image_towers(
    tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    trainer, module = make_trainer([], epochs=1), make_module(frozen=False)
    trainer.fit(module)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    folder = write_shards(tmp_path / "shards", torch.rand(6, 8), made_by=module.model.image_fingerprint)
    evaluation, file = DifferenceTexts({"held": str(folder)}, resamples=5), str(tmp_path / "results.json")
    make_trainer([evaluation, ResultsTable(file)]).test(make_module(), ckpt_path=tmp_path / "last.ckpt", verbose=False)
    ensembles = make_trainer([evaluation, ResultsTable(file, alphas=[0.5])])
    with pytest.raises(ValueError, match="made by another image tower"):
        ensembles.test(make_module(), ckpt_path=tmp_path / "last.ckpt", verbose=False)


def test_missing_folder_and_one_way_pairs(
    tmp_path: Path, make_module: Callable[..., Any], make_trainer: Callable[..., Trainer]
) -> None:
    with pytest.raises(FileNotFoundError, match="shard folder not found"):
        make_trainer([Retrieval({"held": str(tmp_path / "nowhere")})]).fit(make_module())
    index = read_shard_index(write_shards(tmp_path / "shards"))
    index.texts = []
    with pytest.raises(ValueError, match="no pair is given in both directions"):
        DifferenceTexts({}).require(index)
    index.captions = [[] for _ in index.captions]
    with pytest.raises(ValueError, match="no image has a caption"):
        Retrieval({}).require(index)
