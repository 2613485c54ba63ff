"""Evaluation on shard folders."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from pcclip.data.format import EmbeddingInfo
from pcclip.data.shard_index import named_in, read_shard_index, texts_in
from pcclip.model.ensemble import blend
from pcclip.tasks import DifferenceTexts, Evaluator, Retrieval, evaluate
from tests.helpers.pictures import png
from tests.helpers.shards import write_dataset
from tests.helpers.world import TinyModel, by_name, ranking

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
    names, samples = list(LEVELS), []
    for key, ids in enumerate(GROUPS):
        sample = {"__key__": f"{key:08d}".encode()}
        if embeddings is None:
            for place, name in enumerate(ids):
                sample[f"{place:02d}.png"] = png((LEVELS[name],) * 3)[: 50 if damage and name == "c" else None]
        else:
            stream = io.BytesIO()
            np.save(stream, embeddings[[names.index(name) for name in ids]].half().numpy())
            sample["embeddings.npy"] = stream.getvalue()
        ordered = [(0, 1), (1, 0), (2, 0), (0, 2), *([(1, 3)] if key == 0 else [])]
        record = {
            "images": [{"id": name, "captions": [f"a photo of {name}"]} for name in ids],
            "pairs": [{"first": i, "second": j, "text": write_text(ids[i], ids[j])} for i, j in ordered],
        }
        samples.append({**sample, "json": json.dumps(record).encode()})
    tower = None if embeddings is None else EmbeddingInfo("tiny", 8, made_by)
    kind = "images" if embeddings is None else "embeddings"
    info = {"kind": kind, "group_size": 4, "images": 7, "pairs": 9, "embedding": tower}
    return write_dataset(folder, [samples], info)


def tasks(folder: Path) -> list[DifferenceTexts | Retrieval]:
    return [DifferenceTexts(name="held", shards=str(folder)), Retrieval(name="held", shards=str(folder))]


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


def embedded_shards(folder: Path, model: TinyModel) -> Path:
    levels = torch.tensor(list(LEVELS.values()), dtype=torch.uint8)
    with torch.no_grad():
        embeddings = model.encode_images(levels[:, None, None, None].expand(-1, 3, 4, 4))
    return write_shards(folder, embeddings, made_by=model.image_fingerprint)


def test_images_and_embeddings_give_the_same(tmp_path: Path) -> None:
    model = TinyModel()
    images, embedded = write_shards(tmp_path / "images"), embedded_shards(tmp_path / "embedded", model)
    found = [by_name(evaluate(model, tasks(folder), resamples=20)) for folder in (images, embedded)]
    assert found[0] == found[1]
    assert found[0]["difference_texts/held/forced_choice"].n == 4
    assert found[0]["retrieval/held/text_to_image_recall5"].n == 6


def test_damaged_image_takes_its_pairs_along(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", damage=True)
    with pytest.warns(UserWarning, match="held: 1 of 6 images are damaged"):
        found = by_name(evaluate(TinyModel(), tasks(folder), resamples=5))
    assert found["difference_texts/held/forced_choice"].n == 3
    assert found["retrieval/held/image_to_text_recall1"].n == 5


def test_pairs_without_training_texts_are_also_measured_alone(tmp_path: Path) -> None:
    def held(first: str, second: str) -> str:
        return f"the first has {first}, the second {second}"

    def trained(first: str, second: str) -> str:
        return f"the second has {first}, the first {second}" if "e" not in (first, second) else "the first is new"

    train = str(write_shards(tmp_path / "train", write_text=trained))
    folder = str(write_shards(tmp_path / "held", write_text=held))
    measured = [
        DifferenceTexts(name=name, shards=shards, training=[train])
        for name, shards in (("held", folder), ("same", train))
    ]
    with pytest.warns(UserWarning, match="same"):
        results = evaluate(TinyModel(), measured, resamples=5)
    pairs = {row.subset: row.n for row in results if row.metric == "forced_choice"}
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


def test_classes_that_training_texts_name_are_left_out(tmp_path: Path, world: Path) -> None:
    table, folder = tmp_path / "classes.csv", tmp_path / "shards"
    table.write_text("name,brightness\nred,1\ngreen,2\nblue,3\n")
    of_classes = {"images": str(world / "classes"), "table": str(table), "key": "name", "level": "class"}
    task = ranking(world, "unnamed", not_named_in=[str(folder)], **of_classes)
    write_shards(folder, write_text=lambda first, second: f"greens {first} {second}")
    assert {row.n for row in evaluate(TinyModel(), [task], resamples=5) if row.metric == "spearman"} == {2}
    shutil.rmtree(folder)
    write_shards(folder, write_text=lambda first, second: f"reds, greens and blues {first} {second}")
    with pytest.raises(ValueError, match=r"classes.csv.*not_named_in.*unnamed"):
        task.prepare()


def test_embeddings_of_another_tower_are_refused(tmp_path: Path) -> None:
    model = TinyModel()
    evaluator = Evaluator(tasks(embedded_shards(tmp_path / "shards", model)), resamples=5)
    assert evaluator.measure(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.no_grad():
        model.visual.weight += 1
    with pytest.raises(ValueError, match=r"made by another image tower .*pcclip-data embed"):
        evaluator.measure(model)
    model.load_state_dict(blend(before, model.state_dict(), 0.5))
    with pytest.raises(ValueError, match="made by another image tower"):
        evaluator.measure(model)
    with pytest.raises(ValueError, match="the image tower trains"):
        evaluator.measure(TinyModel(frozen=False))


def test_missing_folder_and_one_way_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: "):
        Retrieval(name="held", shards=str(tmp_path / "nowhere")).prepare()
    index = read_shard_index(write_shards(tmp_path / "shards"))
    index.texts = []
    index.captions = [[] for _ in index.captions]
    monkeypatch.setattr("pcclip.tasks.shards.read_shard_index", lambda folder: index)
    for task in tasks(tmp_path / "shards"):
        with pytest.raises(ValueError, match=f"{tmp_path / 'shards'}: no "):
            task.prepare()


def test_samples_are_pairs_with_pictures_and_scores(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", damage=True)
    model = TinyModel()
    samples = Evaluator([DifferenceTexts(name="pairs", shards=str(folder))]).samples(model)
    assert [sample.text for sample in samples] == [text("a", "b"), text("e", "a"), text("f", "e")]  # not those of c
    for sample in samples:
        assert sample.first is not None
        assert sample.second is not None
        levels = [image.getpixel((0, 0)) for image in (sample.first, sample.second)]
        images = model.encode_images(
            torch.stack([model.image_transform(each) for each in (sample.first, sample.second)])
        )
        difference = model.difference(images[:1], images[1:])
        scores = (difference @ model.encode_texts([sample.text, sample.reverse]).T)[0].tolist()
        assert [sample.score, sample.reverse_score] == pytest.approx(scores, abs=1e-5)
        assert ("brighter" in sample.text) == (levels[0] > levels[1])
        assert ("brighter" in sample.reverse) == (levels[1] > levels[0])


def test_samples_of_embedded_shards_have_no_pictures(tmp_path: Path) -> None:
    folder = embedded_shards(tmp_path / "shards", TinyModel())
    samples = Evaluator([DifferenceTexts(name="pairs", shards=str(folder))]).samples(TinyModel())
    assert len(samples) == 4
    assert all(sample.first is sample.second is None for sample in samples)
