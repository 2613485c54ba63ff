"""Weight-space ensembling."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import open_clip
import pytest
import torch
import yaml
from safetensors.torch import load_file

from pcclip.cli import main
from pcclip.model import DifferenceCLIP, save_clip
from pcclip.model.ensemble import blend
from pcclip.results import read_results

BASE = {"weight": torch.tensor([0.0, 2.0]), "count": torch.tensor(3)}
TUNED = {"weight": torch.tensor([1.0, 4.0]), "count": torch.tensor(8)}


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, [0.0, 2.0]), (0.25, [0.25, 2.5]), (1.0, [1.0, 4.0])])
def test_blend(alpha: float, expected: list[float]) -> None:
    blended = blend(BASE, TUNED, alpha)
    assert blended["weight"].tolist() == expected
    assert int(blended["count"]) == 8
    assert torch.equal(blend(TUNED, TUNED, 0.3)["weight"], TUNED["weight"])


def test_weights_that_did_not_change_keep_their_bits() -> None:
    frozen = {"weight": torch.tensor([-0.0, 0.0, 0.1])}
    assert blend(frozen, frozen, 0.3)["weight"].signbit().tolist() == [True, False, False]
    assert BASE["weight"].tolist() == [0.0, 2.0]


def test_states_of_different_models_are_refused() -> None:
    with pytest.raises(ValueError, match="count") as caught:
        blend({"weight": BASE["weight"]}, {**TUNED, "other": torch.zeros(3)}, 0.5)
    assert "other" not in str(caught.value)  # one key, not all
    with pytest.raises(ValueError, match=r"weight.*\[2\].*\[3\]"):
        blend(BASE, {**TUNED, "weight": torch.zeros(3)}, 0.5)


@pytest.fixture
def two(tmp_path: Path, tiny_clip: DifferenceCLIP) -> tuple[Path, Path]:
    """A base and a finetuned model that differ in the text tower."""
    save_clip(tiny_clip, tmp_path / "base")
    with torch.no_grad():
        tiny_clip.towers.text_projection += 0.1 * torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    save_clip(tiny_clip, tmp_path / "finetuned")
    return tmp_path / "base", tmp_path / "finetuned"


def test_command_saves_the_blend(two: tuple[Path, Path], tmp_path: Path) -> None:
    models = ["--base", str(two[0]), "--model", str(two[1])]
    assert main(["ensemble", *models, "--alpha", "0.25", "--output", str(tmp_path / "out")]) == 0
    base, finetuned, blended = (load_file(f / "open_clip_model.safetensors") for f in (*two, tmp_path / "out"))
    for key, value in blended.items():
        assert torch.allclose(value, 0.75 * base[key] + 0.25 * finetuned[key], atol=1e-6)


def test_the_base_can_be_an_open_clip_model(two: tuple[Path, Path], tiny_config: str, tmp_path: Path) -> None:
    open_clip.add_model_config(tiny_config)
    models = ["--base", Path(tiny_config).stem, "--pretrained", str(two[0] / "open_clip_model.safetensors")]
    arguments = ["ensemble", *models, "--model", str(two[1]), "--alpha", "0", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    blended, base = (load_file(folder / "open_clip_model.safetensors") for folder in (tmp_path / "out", two[0]))
    assert all(torch.equal(blended[key], base[key]) for key in base)


def test_sweep_measures_and_plots(
    two: tuple[Path, Path], tmp_path: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    retrieval = {"class_path": "pcclip.tasks.Retrieval", "init_args": {"name": "pictures", "shards": str(shards)}}
    evaluation = {"class_path": "pcclip.callbacks.Evaluation", "init_args": {"tasks": [retrieval]}}
    config = {
        "trainer": {"accelerator": "cpu", "callbacks": [evaluation], "enable_progress_bar": False},
        "model": {"clip": {"name": "not-used"}, "trainable": ["text"]},
        "data": {"train": [str(shards)], "val": [str(shards)], "groups_per_batch": 2, "pairs_per_group": 3},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    models = ["--base", str(two[0]), "--model", str(two[1])]
    arguments = ["ensemble", *models, "--sweep", str(file), "--alphas", "[0, 0.5, 1]"]
    assert main([*arguments, "--output", str(tmp_path / "sweep")]) == 0
    results = read_results(tmp_path / "sweep" / "results.json")
    assert list(results) == ["base", "ensembled 0.5", "finetuned"]
    chart = ElementTree.parse(tmp_path / "sweep" / "retrieval_text_to_image_recall10.svg")
    assert chart.getroot().tag.endswith("svg")
    assert "warning" not in capsys.readouterr().err
    # A model blended with itself gives its own numbers.
    alone = ["--base", str(two[1]), "--model", str(two[1]), "--sweep", str(file), "--alphas", "[0, 0.5, 1]"]
    assert main(["ensemble", *alone, "--output", str(tmp_path / "alone")]) == 0
    blended = read_results(tmp_path / "alone" / "results.json")["ensembled 0.5"]
    assert blended == [replace(row, alpha=0.5) for row in results["finetuned"]]
    assert capsys.readouterr().err.count("warning") == 1  # the two are equal
