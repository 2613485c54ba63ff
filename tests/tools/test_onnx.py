"""Exported ONNX models give the embeddings and scores of the model that they were made from, without torch."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pcclip.model.head import MLPHead
from pcclip.tools.attributes import read_attribute
from pcclip.tools.export import export
from pcclip.tools.inference import InferenceModel
from tests.helpers.models import KINDS, TEXT, VIT, make_clip

ROOT = Path(__file__).parents[2]
TEXTS = ["a dog", "It's the FIRST image   that shows more, 12 shapes & a cat's_bowl (red).", "naïve café", "a " * 99]
AXIS = read_attribute("size")


@pytest.fixture(scope="module", autouse=True)
def _one_block() -> Iterator[None]:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if torch.__version__.startswith("2.6."):
        pytest.skip("torch 2.6 writes no text tower")
    with pytest.MonkeyPatch.context() as patch:
        for part in (VIT, TEXT):
            patch.setitem(part, "layers", 1)  # exports take a second for each block
        yield


def make(folder: Path, kind: str, head: str) -> InferenceModel:
    model = InferenceModel(make_clip(folder, kind, head=head), f"tiny_{kind}")
    for parameter in model.clip.head.parameters():
        nn.init.normal_(parameter)
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[InferenceModel, Path]:
    """A model with a linear head, and the folder that it was exported to with an axis."""
    folder = tmp_path_factory.mktemp("exported")
    model = make(folder, "vit", "linear")
    export(model, folder / "exported_onnx", "onnx", axis=AXIS)
    return model, folder / "exported_onnx"


def run(file: Path, inputs: Tensor, half: bool) -> np.ndarray:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if half:  # the default stage of onnxruntime's optimisation crashes on some CPUs
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    values: np.ndarray = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})[0]
    return values


def check(model: InferenceModel, folder: Path, half: bool = False) -> None:
    """The files give the model's token ids, embeddings and scores, for one input and for three."""
    from tokenizers import Tokenizer

    settings = json.loads((folder / "preprocess.json").read_text())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(TEXTS)])
    assert ids.shape == (len(TEXTS), settings["context_length"])
    assert torch.equal(ids, model.clip.tokenizer.tokenize(TEXTS))
    pixels = torch.randn(3, 3, *settings["size"], generator=torch.Generator().manual_seed(7))
    images = model.encode_image(pixels, normalize=True)
    expected = {"vision_model": images, "text_model": model.encode_text(model.tokenizer(TEXTS), normalize=True)}
    if not isinstance(model.clip.head, MLPHead):
        expected["ranking_model"] = model.clip.project(images) @ model.axis(AXIS.wordings)
    assert {file.stem for file in folder.glob("*.onnx")} == expected.keys()
    for name, values in expected.items():
        inputs = ids if name == "text_model" else pixels
        for count in (1, 3):
            found = run(folder / f"{name}.onnx", inputs[:count], half)
            assert found.dtype == np.float32
            assert np.abs(found - values[:count].numpy()).max() < (2e-2 if half else 1e-4)


def test_exported_models_give_the_same_numbers(exported: tuple[InferenceModel, Path]) -> None:
    model, folder = exported
    check(model, folder)
    card = (folder / "README.md").read_text()
    assert all(file.name in card for file in folder.glob("*.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "head"), [("vit", "linear"), ("siglip", "identity")])
def test_half_precision(tmp_path: Path, kind: str, head: str) -> None:
    model = make(tmp_path, kind, head)
    export(model, tmp_path / "exported", "onnx", axis=AXIS, half=True)
    check(model, tmp_path / "exported", half=True)


def test_what_has_no_place_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "blind", {"vision_cfg": {**VIT, "layers": 0}})
    monkeypatch.setattr("pcclip.tools.onnx_export._write", lambda graph, file: file.touch())
    monkeypatch.setattr("pcclip.tools.onnx_export._check", lambda *_: None)
    with pytest.raises(ValueError, match=r"MLP head"):
        export(make(tmp_path, "vit", "mlp"), tmp_path / "exported", "onnx", axis=AXIS)
    blind = make(tmp_path, "blind", "identity")
    with pytest.raises(ValueError, match=r"text_only"):
        export(blind, tmp_path / "exported", "onnx")
    assert not (tmp_path / "exported").exists()
    export(blind, tmp_path / "exported", "onnx", text_only=True)
    assert [file.name for file in (tmp_path / "exported").glob("*.onnx")] == ["text_model.onnx"]


def test_guide_ranks_without_torch(exported: tuple[InferenceModel, Path], photos: Path) -> None:
    """The examples in the guide give the numbers of `InferenceModel`, and torch is not imported."""
    model, folder = exported
    guide = (ROOT / "docs/guides/use.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "InferenceSession" in block]
    code = "".join(blocks)
    results = "json.dumps([[str(file) for file in files], scores.tolist(), images.tolist(), texts.tolist()])"
    code += f"import sys\nassert 'torch' not in sys.modules\nprint({results})\n"
    (photos.parent / folder.name).symlink_to(folder)
    done = subprocess.run([sys.executable, "-c", code], cwd=photos.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files, scores, images, texts = json.loads(done.stdout.splitlines()[-1])
    assert len(files) > 5
    paths = [str(photos.parent / file) for file in files]
    rows = {row.path: row.score for row in model.rank(paths, attribute="size")}
    assert np.abs(np.array(scores) - np.mean(scores) - [rows[path] for path in paths]).max() < 1e-4
    assert np.abs(np.array(images) - model.embed(paths).embeddings.numpy()).max() < 1e-4
    assert np.abs(np.array(texts) - model.embed_texts(["a large shape", "a small shape"]).numpy()).max() < 1e-4
