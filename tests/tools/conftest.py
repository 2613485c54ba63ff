"""A saved tiny model, and a folder of pictures that differ in one thing."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from pcclip.model import load_clip, save_clip
from pcclip.tools.inference import InferenceModel
from pcclip.tools.open_model import load_model

COUNT = 12


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny CLIP with random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    save_clip(load_clip(str(Path(__file__).parents[1] / "helpers" / "tiny.json")), folder)
    return folder


@pytest.fixture(scope="session")
def model(saved: Path) -> InferenceModel:
    """The same, loaded."""
    return load_model(str(saved))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of pictures, from dark to bright in the order of their names, one of them in a subfolder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(COUNT):
        place = folder / "sub" if number == COUNT - 1 else folder
        Image.new("RGB", (40, 30), (20 * number, 255 - 20 * number, 100)).save(place / f"{number:02d}.png")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.chdir(tmp_path)
