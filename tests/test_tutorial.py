"""docs/tutorial.sh runs from pictures to a ranking, on the demo's pictures and on a folder of the user's."""

import csv
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from pcclip.model import load_clip, save_clip
from tests.helpers.models import TINY
from tests.helpers.programs import run_script

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.slow,
    # Lightning's, if log_every_n_steps is too large
    pytest.mark.filterwarnings("error:The number of training batches"),
]


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run the script in a folder with the configurations, with a small random model."""
    monkeypatch.chdir(folder)
    Path("conf").symlink_to(ROOT / "conf")
    torch.manual_seed(0)
    save_clip(load_clip(str(TINY)), "base")
    model = {"CLIP": "local-dir:base", "PRETRAINED": "null"}
    run_script(folder / "bin", "bash", str(ROOT / "docs/tutorial.sh"), *arguments, **model)
    rows = json.loads((folder / "runs/tutorial/results.json").read_text())
    assert {row["model"] for row in rows} == {"base", "finetuned", "ensembled 0.5", "ensembled 0.7"}
    changed = {row["model"]: row["value"] for row in rows if row["metric"] == "forced_choice"}
    assert changed["base"] != changed["finetuned"]
    for name in ("data/pairs.html", "report.html", "before.png", "after.png"):
        assert (folder / "runs/tutorial" / name).stat().st_size > 1000


def test_on_pictures_that_it_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, monkeypatch)


def test_on_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    (photos / "images").mkdir(parents=True)
    with (photos / "captions.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "caption"])
        for number in range(200):
            name, grey = f"{number}.jpg", number
            Image.new("RGB", (48, 32), (grey, grey, 255 - grey)).save(photos / "images" / name)
            table.writerows([(name, f"a picture number {number} of {words}") for words in ("light", "a colour")])
    run(tmp_path, monkeypatch, str(photos))
