"""From COCO's own files to a training step: every step of the preparation, then the model, on a real sample."""

from pathlib import Path

import pytest
import yaml

from data_prep.cli import main as prepare
from pcclip.cli import main as pcclip

SAMPLE = Path(__file__).parents[2] / "shared" / "data" / "coco_mini"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no COCO sample at {SAMPLE}"),
]


def test_coco_to_training(tmp_path: Path, tiny_config: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "prepared"
    overrides = ["--data", str(SAMPLE), "--root", str(root), "--backend", "compose"]
    assert prepare(["all", "--config", "conf/data/coco.yaml", *overrides]) == 0
    assert "nothing is wrong" in capsys.readouterr().out
    assert "first" in (root / "pairs.html").read_text(encoding="utf-8")
    made_by = (root / "train" / "differences.jsonl.manifest.json").read_text(encoding="utf-8")
    assert "compose" in made_by

    # Again: every step finds its work done.
    assert prepare(["all", "--config", "conf/data/coco.yaml", *overrides]) == 0
    assert capsys.readouterr().out.count("is up to date") >= 8

    config = {
        "trainer": {"accelerator": "cpu", "devices": 1, "max_epochs": 2, "default_root_dir": str(tmp_path)}
        | {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False},
        "model": {"clip": {"name": tiny_config}, "trainable": ["all"], "caption_weight": 0.5}
        | {"optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1.0e-3}}},
        "data": {"train": [str(root / "shards/train")], "val": [str(root / "shards/val")], "groups_per_batch": 2}
        | {"num_workers": 0},
    }
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    assert pcclip(["fit", "--config", str(file)]) == 0
    assert pcclip(["validate", "--config", str(file)]) == 0
    assert "val/difference_loss" in capsys.readouterr().out
