"""`pcclip search` and `pcclip prompt`: known answers, and what the commands write."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from pcclip.cli import main
from pcclip.datasets.annotations import read_comparatives
from pcclip.metrics.protocol import Comparative
from pcclip.metrics.zero_shot import class_embeddings
from pcclip.tools.gallery import Gallery
from pcclip.tools.inference import InferenceModel
from pcclip.tools.picture_sources import GivenPicture
from pcclip.tools.prompt import classify
from pcclip.tools.search import Index, exact_index, faiss_index, search
from tests.helpers.fault_server import running_server
from tests.helpers.models import make_clip

NOTHING = Image.new("RGB", (4, 4))


def gallery_of(embeddings: torch.Tensor) -> Gallery:
    pictures = [GivenPicture(f"{number}", NOTHING) for number in range(len(embeddings))]
    return Gallery(list(pictures), normalize(embeddings, dim=-1), [])


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("engine", ["exact", "faiss"])
def test_the_text_moves_the_image(engine: str, tmp_path: Path) -> None:
    if engine == "faiss":
        pytest.importorskip("faiss")
    # Kind of thing, and day (-1) or night (1): the cat at night is what the cat by day becomes.
    gallery = gallery_of(torch.tensor([[1.0, 0, -1], [0, 1, -1], [1, 0, 1], [0, 1, 1]]))
    night = torch.tensor([0.0, 0.0, 1.0])

    def index() -> Index:
        return exact_index(gallery) if engine == "exact" else faiss_index(gallery, tmp_path / "index.faiss")

    for made in (index(), index()):  # built, and read again
        start = gallery.embeddings[0]
        assert [each.path for each in search(gallery, made, start, night, factor=0, count=2)] == ["0", "1"]
        found = search(gallery, made, start, night, factor=2, exclude=["0"])
        assert found[0].path == "2"
        assert len(found) == 3
        assert found[0].cosine == pytest.approx(float(normalize(start + 2 * night, dim=-1) @ gallery.embeddings[2]))


def test_a_linear_head_is_undone(tmp_path: Path) -> None:
    model = InferenceModel(make_clip(tmp_path, "vit", head="linear"), "linear")
    model.clip.head.weight.data += 0.1 * torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    axis = torch.randn(32, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(model.clip.project(model.shift(axis)), axis, atol=1e-4)
    with pytest.raises(ValueError, match="MLP"):
        InferenceModel(make_clip(tmp_path, "vit", head="mlp"), "mlp").shift(axis)


def test_search_command(saved: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "found.csv"
    query = str(photos / "03.png")
    arguments = ["search", str(photos), "--image", query, "--text", "the first is darker", "--model", str(saved)]
    assert main([*arguments, "--lambdas", "[0, 1]", "--count", "3", "--output", str(output)]) == 0
    found = rows(output)
    assert [(row["lambda"], row["rank"]) for row in found] == [(x, str(rank)) for x in "01" for rank in (1, 2, 3)]
    assert query not in {row["path"] for row in found}
    with Image.open(output.with_suffix(".png")) as sheet:
        assert sheet.size[0] > 4 * 112
    assert "lambda 1: " in capsys.readouterr().out


def test_classes_are_those_of_the_evaluation(model: InferenceModel) -> None:
    classes, templates = ["cat", "dog", "cow"], ["a photo of a {}", "a {}"]
    plain = class_embeddings(model.clip, classes, templates)
    gallery = gallery_of(torch.randn(50, 32, generator=torch.Generator().manual_seed(0)))
    prediction = classify(model, gallery, classes, templates)
    cosines = gallery.embeddings @ plain.T
    assert torch.equal(prediction.first, cosines.argmax(1))
    assert torch.allclose(prediction.cosine - prediction.margin, cosines.sort(1).values[:, 1], atol=1e-6)
    texts = [Comparative("cat", "dog", "the cat is smaller")]
    assert torch.equal(classify(model, gallery, classes, templates, texts, alpha=1.0).first, prediction.first)
    moved = classify(model, gallery, classes, templates, texts, alpha=0.0)
    direction = normalize(plain[0] - model.embed_texts(["the cat is smaller"])[0], dim=-1)
    expected = (gallery.embeddings @ torch.stack([plain[0], direction, plain[2]]).T).argmax(1)
    assert torch.equal(moved.first, expected)


def test_prompt_command(saved: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = tmp_path / "comparatives.jsonl"
    texts.write_text(json.dumps({"first": "red", "second": "green", "text": "a is red, while b is green"}) + "\n")
    output = tmp_path / "classes.csv"
    arguments = ["prompt", str(photos), "--classes", "red, green", "--comparatives", str(texts)]
    assert main([*arguments, "--model", str(saved), "--output", str(output)]) == 0
    assert {row["class"] for row in rows(output)} <= {"red", "green"}
    assert len(rows(output)) == 12
    assert "changed their class by the 1 texts" in capsys.readouterr().out


def test_prompt_has_the_texts_written_once(
    saved: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts, output = tmp_path / "kept" / "comparatives.jsonl", tmp_path / "classes.csv"
    with running_server() as server:
        arguments = ["prompt", str(photos), "--classes", "red,green,blue", "--model", str(saved)]
        arguments += [
            "--output",
            str(output),
            "--comparatives",
            str(texts),
            "--ask.kind",
            "colours",
            "--overwrite",
            "true",
        ]
        for _ in range(2):
            assert main([*arguments, "--ask.model", "writer", "--ask.base_url", server.url]) == 0
            assert "changed their class by the 6 texts" in capsys.readouterr().out
        assert sum(server.asked.values()) == 3  # a request for each pair, both ways, and none the second time
        assert {body["model"] for body in server.bodies} == {"writer"}
        assert 'The classes are colours. How does "red" differ from "green"?' in server.asked
    found = {(row.first, row.second) for row in read_comparatives(texts)}
    assert found == {(a, b) for a in ("red", "green", "blue") for b in ("red", "green", "blue") if a != b}
    # Texts by another model are not mixed with these, and there is no endpoint any more.
    assert main([*arguments, "--ask.model", "another", "--ask.base_url", server.url]) == 2
    assert len(read_comparatives(texts)) == 6
