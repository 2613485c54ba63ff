"""Groups of similar images, by words and by models: other groups each round, and the same for a seed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data_prep.files import read_captions
from data_prep.steps import pairs, similar, tower
from pcclip.model.loading import load_clip, save_clip
from tests.data_prep.conftest import Read, Rows, Write

TOPICS = ("dogs beach sand waves", "cats sofa room lamp", "trains station rails steam", "pizza cheese oven plate")
TINY = str(Path(__file__).parents[1] / "helpers/tiny.json")


@pytest.fixture
def captions(write: Write) -> Path:
    """64 images of four topics in turn, each with captions of some of its topic's words."""
    rng = np.random.default_rng(0)
    rows: Rows = []
    for index in range(64):
        words = TOPICS[index % 4].split()
        texts = [f"a photo of {' and '.join(rng.permutation(words)[:3])}" for _ in range(2)]
        rows.append({"id": f"i{index}", "file": f"{index}.png", "captions": texts})
    return write("captions.jsonl", rows)


def topics_shared(rows: Rows) -> float:
    """Share of pairs whose images have the same topic."""
    return float(np.mean([int(row["first"][1:]) % 4 == int(row["second"][1:]) % 4 for row in rows]))


def test_similar_pairs_are_more_alike_than_random_ones(captions: Path, tmp_path: Path, read: Read) -> None:
    share = {}
    for dealing in ("random", "similar"):
        output = tmp_path / f"{dealing}.jsonl"
        pairs.Pairs(captions=str(captions), output=str(output), group_size=8, pairs_per_group=20, dealing=dealing).run()
        share[dealing] = topics_shared(read(output))
        assert len(read(output)) == 160
    assert share["random"] < 0.4
    assert share["similar"] > 0.7


@pytest.mark.parametrize(("count", "group_size"), [(2, 2), (5, 16), (64, 8), (65, 8), (100, 7), (203, 16), (1000, 3)])
def test_order_holds_every_image_once(count: int, group_size: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((count, 6)).astype(np.float32)
    order = similar.order(vectors, group_size, np.random.default_rng(1))
    assert sorted(order.tolist()) == list(range(count))
    again = similar.order(vectors, group_size, np.random.default_rng(1))
    assert order.tolist() == again.tolist()
    equal = similar.order(np.zeros((count, 4), np.float32), group_size, np.random.default_rng(0))
    assert sorted(equal.tolist()) == list(range(count))


def test_rounds_deal_other_groups_and_no_pair_twice(captions: Path) -> None:
    vectors = similar.embed_by_words(captions, np.arange(64), 0)
    options = pairs.Pairs(captions="", output="", group_size=8, pairs_per_group=14, rounds=4)
    rows = list(pairs.deal([f"i{index}" for index in range(64)], options, vectors, np.zeros(64, bool)))
    drawn = {frozenset((row["first"], row["second"])) for row in rows}
    assert len(drawn) == len(rows) > 300  # of 448; the same groups in all rounds would have no more than 224
    assert rows == list(pairs.deal([f"i{index}" for index in range(64)], options, vectors, np.zeros(64, bool)))


@pytest.mark.parametrize("count", [40, 200])
def test_more_words_than_images_or_more_than_the_width(write: Write, count: int) -> None:
    rows: Rows = [
        {"id": f"i{index}", "file": "x", "captions": [f"w{index}x w{index}y w{index // 2}z"]} for index in range(count)
    ]
    vectors = similar.embed_by_words(write("c.jsonl", rows), np.arange(count), 0)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors.shape == (count, 120 - 20 if count == 40 else 128)
    assert (vectors[::2] * vectors[1::2]).sum(1).mean() > 0.1 > abs((vectors[::2] * vectors[::-2]).sum(1).mean())


def test_images_without_captions(write: Write) -> None:
    rows: Rows = [{"id": f"i{index}", "file": "x", "captions": ["a red dog"] * (index % 2)} for index in range(6)]
    vectors = similar.embed_by_words(write("c.jsonl", rows), np.arange(6), 0)
    assert np.linalg.norm(vectors, axis=1).round(3).tolist() == [0, 1] * 3
    with pytest.raises(ValueError, match=r"captions.*dealing: random"):
        similar.embed_by_words(write("d.jsonl", rows[::2]), np.arange(3), 0)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    save_clip(load_clip(TINY), folder)
    return folder


def test_embeddings_of_a_tower(captions: Path, model_folder: Path) -> None:
    name = f"local-dir:{model_folder}"
    vectors = tower.embed_by_model(captions, np.arange(6), name=name, pretrained=None, by="captions", seed=0)
    model = load_clip(name).eval()
    _, row = next(read_captions(captions))
    with torch.inference_mode():
        mean = torch.nn.functional.normalize(model.encode_texts(row["captions"]).mean(0), dim=0)
    assert vectors.shape == (6, model.embed_dim)
    assert np.allclose(vectors[0], mean.numpy(), atol=1e-5)


def test_dealing_by_images_follows_the_pictures(
    captions: Path, model_folder: Path, tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar, "CHUNK", 10)
    monkeypatch.setattr(tower, "WIDTH", 16)  # narrower than the tower, so that it is projected
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 255, (4, 3))
    for index in range(64):
        pixels = np.clip(colours[index % 4] + rng.integers(-5, 5, (32, 32, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    output = tmp_path / "pairs.jsonl"
    options = pairs.Pairs(
        captions=str(captions), output=str(output), group_size=8, pairs_per_group=20, dealing="similar"
    )
    options.model, options.similar_by = f"local-dir:{model_folder}", "images"
    options.run()
    assert topics_shared(read(output)) > 0.9
    (tmp_path / "7.png").write_bytes(b"no image")
    options.seed = 1
    with pytest.raises(ValueError, match=r"7.png: unreadable image"):
        options.run()


def test_a_model_needs_weights(captions: Path) -> None:
    with pytest.raises(ValueError, match=r"pairs.model: ViT-B-32 .*pairs.pretrained"):
        tower.embed_by_model(captions, np.arange(2), name="ViT-B-32", pretrained=None, by="captions", seed=0)
