"""A loaded model: the same numbers as the evaluation and as open_clip, from every kind of source."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

import pcclip
from pcclip.command_line import ToolWarning
from pcclip.metrics.attribute_ranking import attribute_scores
from pcclip.metrics.protocol import Wording
from pcclip.tasks import Retrieval
from pcclip.tools.attributes import read_attribute, vocabulary
from pcclip.tools.inference import InferenceModel
from pcclip.tools.picture_sources import find_pictures

MORE, LESS = "the first is brighter", "the first is darker"


def test_rank_agrees_with_the_evaluation(model: InferenceModel, photos: Path) -> None:
    ranked = model.rank(photos, more=MORE, less=LESS)
    assert [row.rank for row in ranked] == list(range(1, 13))
    assert ranked[0].percentile == 100
    assert ranked[-1].percentile == 0
    flat = find_pictures([photos])
    pixels = torch.stack([model.clip.image_transform(image.decode()) for image in flat])
    expected = attribute_scores(model.clip, model.clip.encode_images(pixels), [Wording(MORE, LESS)])[0]
    scores = {Path(row.path).name: row.score for row in ranked}
    for image, value in zip(flat, expected.tolist(), strict=True):
        assert scores[Path(image.path).name] == pytest.approx(value, abs=1e-6)


def test_tasks_are_measured_without_a_trainer(model: InferenceModel, shards: Path) -> None:
    found = model.evaluate([Retrieval(name="pictures", shards=str(shards))], resamples=5)
    assert {row.tag for row in found} >= {"retrieval/pictures/text_to_image_recall1"}
    assert all(row.low <= row.value <= row.high for row in found)


def test_rank_by_a_named_attribute(model: InferenceModel, photos: Path, tmp_path: Path) -> None:
    size = read_attribute("size")
    expected = model.rank(photos, [each.text for each in size.wordings], [each.reverse for each in size.wordings])
    assert model.rank(photos, attribute="size") == expected
    assert model.rank(photos, attribute=size) == expected
    own = tmp_path / "own.yaml"
    own.write_text("templates: ['{more}, {less}']\nattributes: {light: {more: brighter, less: darker}}\n")
    light = model.rank(photos, attribute=read_attribute("light", own))
    assert light == model.rank(photos, "brighter, darker", "darker, brighter")
    with pytest.raises(ValueError, match=r"attributes.yaml.*taste"):
        model.rank(photos, attribute="taste")
    with pytest.raises(ValueError, match="attribute"):
        model.rank(photos, MORE, LESS, attribute="size")


def test_difference_and_compare_have_a_direction(model: InferenceModel, photos: Path) -> None:
    a, b = photos / "00.png", Image.open(photos / "09.png")
    assert torch.allclose(model.difference(a, b), -model.difference(b, a), atol=1e-6)
    there, back = model.compare(a, b, [MORE, LESS]), model.compare(b, a, [MORE, LESS])
    assert there[MORE] == pytest.approx(-back[MORE], abs=1e-6)
    assert list(there) == list(reversed(back))


def test_examples_give_an_axis_and_blend_with_texts(model: InferenceModel, photos: Path) -> None:
    embedded = model.embed(photos)
    by_name = {Path(picture.key).name: row for picture, row in zip(embedded.pictures, embedded.embeddings, strict=True)}
    high, low = [by_name[f"0{number}.png"] for number in (0, 1)], [by_name[f"0{number}.png"] for number in (8, 9)]
    axis = normalize(sum(high) - sum(low), dim=0)  # type: ignore[arg-type]
    text = normalize(model.axis([Wording(MORE, LESS)]), dim=0)
    examples: dict[str, Any] = {
        "high": [photos / "00.png", Image.open(photos / "01.png")],
        "low": [photos / "08.png", photos / "09.png"],
    }
    blended = {"more": MORE, "less": LESS, "blend": 0.25}
    for options, expected in (({}, axis), (blended, 0.75 * axis + 0.25 * text), ({**blended, "blend": 1.0}, text)):
        scores = {Path(row.path).name: row.score for row in model.rank(photos, **examples, **options)}
        for name, row in by_name.items():
            assert scores[name] == pytest.approx(float((row - embedded.mean()) @ expected), abs=1e-6)
    ranked = model.rank(photos, **examples)
    swapped = model.rank(photos, high=examples["low"], low=examples["high"])
    assert [row.path for row in swapped] == [row.path for row in reversed(ranked)]
    (photos / "x.png").write_bytes(b"no picture")
    for wrong, named in (
        ({"high": photos / "00.png"}, "both high and low"),
        ({"high": photos / "00.png", "low": [Image.open(photos / "00.png")]}, "same pictures"),
        ({**examples, "low": photos / "x.png"}, r"x\.png"),
        ({**examples, "blend": 0.5}, "blend"),
        ({"more": MORE, "less": LESS, "blend": 0.5}, "blend"),
        ({"more": MORE, "less": LESS, **examples, "blend": 1.5}, r"1\.5"),
    ):
        with pytest.raises(ValueError, match=named):
            model.rank(photos / "sub", **wrong)


def test_differences_are_explained_largest_margin_first(model: InferenceModel, photos: Path) -> None:
    a, b = photos / "00.png", Image.open(photos / "09.png")
    texts = {MORE: LESS, "the first is a cat": "the first is a dog"}
    there, back = model.explain(a, b, texts), model.explain(b, a, texts)
    cosines = model.compare(a, b, [*texts, *texts.values()])
    for row, other in zip(there, back, strict=True):
        assert row.margin == pytest.approx(cosines[row.text] - cosines[row.reverse], abs=1e-6)
        assert (other.text, other.reverse) == (row.reverse, row.text)
        assert other.margin == pytest.approx(row.margin, abs=1e-6)
        assert row.margin >= 0
    assert there[0].margin >= there[1].margin
    larger = "the first is larger than the second"
    (row,) = model.explain(a, b, [larger])
    assert {row.text, row.reverse} == {larger, "the second is larger than the first"}
    size = read_attribute("size")
    margin = model.axis(size.wordings) @ model.difference(a, b)  # all wordings count
    assert model.explain(a, b, [size])[0].margin == pytest.approx(abs(float(margin)), abs=1e-6)
    for wrong, named in ((["larger"], "larger"), ({MORE: MORE}, MORE), ([], "no texts")):
        with pytest.raises(ValueError, match=named):
            model.explain(a, b, wrong)


def test_the_shipped_vocabularies(model: InferenceModel, photos: Path) -> None:
    world, photographs = vocabulary("world"), vocabulary("photographs")
    assert {"size", "count", "brightness", "position"} <= {axis.name for axis in world}
    assert not {axis.more for axis in world} & {axis.more for axis in photographs}
    assert len(world) + len(photographs) >= 200
    sides = [frozenset((axis.more, axis.less)) for axis in (*world, *photographs)]
    assert len(set(sides)) == len(sides)
    texts = [text for axis in (*world, *photographs) for row in axis.wordings for text in (row.text, row.reverse)]
    assert not [text for text in texts if not model.clip.tokenizer.fits(text)]
    assert len(model.explain(photos / "00.png", photos / "09.png")) == len(photographs)


def test_it_can_be_taken_for_an_open_clip_model(saved: Path, model: InferenceModel) -> None:
    original, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{saved}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{saved}")
    picture = Image.effect_noise((50, 40), 80).convert("RGB")
    texts = ["a dog on a beach", "two cats"]
    with torch.no_grad():
        image = original.eval().encode_image(preprocess(picture)[None])
        text = original.encode_text(tokenizer(texts), normalize=True)
    assert torch.allclose(model.encode_image(model.preprocess(picture)[None]), image, atol=1e-6)
    assert torch.allclose(model.encode_text(model.tokenizer(texts), normalize=True), text, atol=1e-6)
    assert torch.allclose(model.encode_text(tokenizer(texts), normalize=True), text, atol=1e-6)
    assert model.logit_scale.item() == original.logit_scale.item()


def test_cached_is_the_same_as_live_and_damaged_files_are_known(
    model: InferenceModel, photos: Path, tmp_path: Path
) -> None:
    (photos / "05b.png").write_bytes(b"no picture")
    live = model.embed(photos)
    first, again = (model.embed(photos, cache=tmp_path / "kept") for _ in range(2))
    for gallery in (live, first, again):
        assert [Path(key).name for key in gallery.unreadable] == ["05b.png"]
        assert torch.allclose(gallery.embeddings, live.embeddings, atol=1e-6)
        assert [picture.key for picture in gallery.pictures] == [picture.key for picture in live.pictures]
    assert torch.equal(first.embeddings, again.embeddings)


def test_a_model_without_finite_embeddings_is_refused(saved: Path, photos: Path) -> None:
    broken = pcclip.load(str(saved))
    broken.clip.towers.visual.proj.fill_(torch.nan)
    with pytest.raises(ValueError, match="12 of 12"):
        broken.embed(photos)
    broken = pcclip.load(str(saved))
    broken.clip.towers.text_projection.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"1 of 1"):
        broken.embed_texts(["a cat"])


def test_a_picture_that_alone_has_no_finite_embedding_is_left_out(
    model: InferenceModel, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(images: torch.Tensor) -> torch.Tensor:
        embedded = whole(images)
        embedded[images[:, 0, 0, 0] == 60] = torch.nan
        return embedded

    with monkeypatch.context() as patched:
        whole = model.clip.encode_images
        patched.setattr(model.clip, "encode_images", encode)
        gallery = model.embed(photos, cache=tmp_path / "cache")
    assert [Path(name).name for name in gallery.unreadable] == ["03.png"]
    assert len(gallery.pictures) == len(gallery.embeddings) == 11
    assert gallery.embeddings.isfinite().all()
    assert not model.embed(photos, cache=tmp_path / "cache").unreadable  # not kept as damaged


def test_many_pictures_lie_in_a_file(model: InferenceModel, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = model.embed(photos).embeddings
    monkeypatch.setattr("pcclip.tools.gallery.IN_MEMORY", 0)
    (photos / "00a.png").write_bytes(b"no picture")
    gallery = model.embed(photos)
    assert torch.allclose(gallery.embeddings, in_memory, atol=1e-6)
    assert torch.allclose(gallery.mean(), in_memory.mean(0), atol=1e-6)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_change_nothing(model: InferenceModel, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pcclip.data.encoding.FEW", 1)
    (photos / "00a.png").write_bytes(b"no picture")
    pictures = find_pictures([photos])
    one, two = (model.embed_pictures(pictures, batch_size=3, workers=workers) for workers in (0, 2))
    assert torch.equal(one.embeddings, two.embeddings)


def test_text_longer_than_the_context_is_reported(model: InferenceModel) -> None:
    text = " ".join(["dog"] * 75 + ["cut", "off"])
    with pytest.warns(ToolWarning, match="end is cut off: '.*cut off'"):
        model.embed_texts([text, "short"])
    assert torch.equal(model.clip.tokenizer([text]), model.clip.tokenizer([text.removesuffix(" cut off")]))


def test_import_is_light() -> None:
    code = "import sys, pcclip.cli; pcclip.cli.main(['--help']); sys.exit(bool({'torch', 'jsonargparse'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
