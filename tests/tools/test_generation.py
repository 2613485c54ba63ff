"""`pcclip generate` on a tiny pipeline with random weights."""

import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from pcclip.cli import main
from pcclip.command_line import ToolWarning
from pcclip.model import save_clip
from pcclip.model.loading import ClipSource
from pcclip.model.lora import Lora, add_adapters
from pcclip.model.text_to_image import generate, load_pipeline
from pcclip.tasks import Evaluator, Generation
from pcclip.tools.open_model import load_model
from tests.helpers.models import TINY, make_clip
from tests.helpers.official_trees import write_pipeline

pytest.importorskip("diffusers")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Stable Diffusion that draws 16 x 16 pixels."""
    return write_pipeline(tmp_path_factory.mktemp("models") / "pipeline")


def test_difference_moves_the_pictures(pipeline_folder: Path, tmp_path: Path) -> None:
    model = make_clip(tmp_path, "vit")
    pipeline = load_pipeline(pipeline_folder, model)
    settings = {"steps": 2, "seeds": (0, 1), "side": 16}
    made = generate(pipeline, "a dog", "the first is larger", "", [0.0, 3.0], **settings)
    plain = generate(pipeline, "a dog", "something else", "the opposite", [0.0], **settings)
    arrays = {factor: [np.asarray(picture) for picture in row] for factor, row in made.items()}
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(arrays[0.0], plain[0.0], strict=True))
    assert not np.array_equal(arrays[0.0][0], arrays[3.0][0])
    assert not np.array_equal(arrays[0.0][0], arrays[0.0][1])
    with torch.no_grad():
        model.towers.ln_final.weight[0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        generate(load_pipeline(pipeline_folder, model), "a dog", "a", "b", [1.0], **settings)


def test_pipeline_of_another_text_tower(pipeline_folder: Path, tmp_path: Path) -> None:
    model = make_clip(tmp_path, "vit")
    pipeline = load_pipeline(pipeline_folder, model)
    pipeline.save_pretrained(tmp_path / "own")
    add_adapters(model, Lora(rank=2))
    with torch.no_grad():
        for name, weight in model.named_parameters():  # as after finetuning
            weight += 0.1 * torch.randn_like(weight) if ".lora_B." in name else 0
    with warnings.catch_warnings():
        warnings.simplefilter("error", ToolWarning)
        load_pipeline(tmp_path / "own", model)
    torch.nn.init.normal_(model.towers.token_embedding.weight)
    with pytest.warns(ToolWarning, match="own"):
        load_pipeline(tmp_path / "own", model)
    [weights] = (tmp_path / "own/text_encoder").glob("*.safetensors")
    for break_it in (lambda: weights.write_bytes(b"no weights"), weights.unlink):
        break_it()
        with pytest.raises(ValueError, match="own/text_encoder"):
            load_pipeline(tmp_path / "own", model)


def test_task_draws_each_difference_once_and_leaves_the_random_state(
    pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dog with two difference texts and two targets, and a cat with one of each: eight and two judged images."""
    opposites = [("larger", "smaller"), ("brighter", "darker")]
    dog = {
        "wordings": [{"text": f"the first is {more}", "reverse": f"the first is {less}"} for more, less in opposites],
        "prompts": [{"more": f"a {more} dog", "less": f"a {less} dog"} for more, less in opposites],
    }
    texts = tmp_path / "texts.yaml"
    texts.write_text(
        yaml.safe_dump({"a dog": dog, "a cat": {key: rows[:1] for key, rows in dog.items()}}, sort_keys=False)
    )
    drawn = []

    def short(pipeline: Any, *words: Any, **settings: Any) -> Any:
        drawn.append(words[:2])
        return generate(pipeline, *words, **settings)

    monkeypatch.setattr("pcclip.tasks.generation.generate", short)
    settings: dict[str, Any] = {"name": "own", "pipeline": str(pipeline_folder), "texts": str(texts), "steps": 1}
    task = partial(Generation, **settings, judge=ClipSource(str(TINY)))
    evaluator = Evaluator([task(seeds=[0], side=16)], resamples=10)
    evaluator.prepare()
    model = make_clip(tmp_path, "vit")
    before = torch.get_rng_state()
    rows = evaluator.measure(model)
    assert torch.equal(torch.get_rng_state(), before)
    assert drawn == [
        ("a dog", "the first is larger"),
        ("a dog", "the first is brighter"),
        ("a cat", "the first is larger"),
    ]
    assert [row.n for row in rows] == [10, 10]
    for wrong, name in (({"seeds": []}, "seeds"), ({"side": 20}, "side")):
        with pytest.raises(ValueError, match=name):
            task(**wrong).prepare()


def test_command_draws_a_grid_and_prints_its_score(
    pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_clip(make_clip(tmp_path, "vit"), tmp_path / "model")
    arguments = ["generate", "--pipeline", str(pipeline_folder), "--model", str(tmp_path / "model"), "--steps", "1"]
    arguments += ["--prompt", "a dog", "--difference", "the first is larger", "--lambdas", "[0, 1]"]
    output = tmp_path / "grid.png"
    assert main([*arguments, "--seeds", "[0, 1, 2]", "--side", "16", "--output", str(output)]) == 0
    found = [float(score) for score in re.findall(r"CLIPScore (\S+)", capsys.readouterr().out)]
    model = load_model(str(tmp_path / "model"))
    pipeline = load_pipeline(pipeline_folder, model.clip)
    settings = {"steps": 1, "seeds": (0, 1, 2), "side": 16}
    made = generate(pipeline, "a dog", "the first is larger", "", [0.0, 1.0], **settings)
    cosines = [model.embed(row).embeddings @ model.embed_texts(["a dog"])[0] for row in made.values()]
    assert found == pytest.approx([float((2.5 * each.clamp(0)).mean()) for each in cosines], abs=1e-3)
    with Image.open(output) as grid:
        assert grid.height > 2 * 112
