"""The built wheel works without the checkout: the commands find what they need in the installed packages."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from PIL import Image

from pcclip.model import load_clip, save_clip
from tests.helpers.fault_server import running_server
from tests.helpers.pair_files import write_pairs

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def run(*words: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"XDG_CACHE_HOME": str(cwd / "xdg"), "OPENAI_API_KEY": "none"}
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands' folder of a fresh environment with the wheel. Dependencies come from the present environment."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy: setuptools would reuse files of an earlier build in the checkout
    for name in ("pcclip", "data_prep"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    build = [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True)
    shutil.rmtree(source)
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    (wheel,) = folder.glob("*.whl")
    python = folder / "venv/bin/python"
    run(*pip, "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    # .pth files of a folder that is named in a .pth file are not read, so the editable checkout stays out.
    (packages,) = folder.glob("venv/lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    found = run(python, "-c", "import data_prep, pcclip; print(data_prep.__file__, pcclip.__file__)", cwd=folder)
    assert all(Path(file).is_relative_to(packages) for file in found.split())
    return python.parent


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.new("RGB", (40, 30), (60 * number, 200 - 60 * number, 100)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """Where the commands are run."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_tools(installed: Path, photos: Path, empty: Path, tmp_path: Path) -> None:
    saved = tmp_path / "model"
    save_clip(load_clip(str(ROOT / "tests/helpers/tiny.json")), saved)
    pcclip = installed / "pcclip"
    said = run(pcclip, "rank", photos, "--attribute", "size", "--model", saved, "--output", "ranked.csv", cwd=empty)
    assert "4 pictures ranked" in said
    assert (empty / "ranked.csv").is_file()
    words = (
        "--classes",
        "cat,dog",
        "--comparatives",
        "texts.jsonl",
        "--ask.model",
        "writer",
        "--output",
        "classes.csv",
    )
    with running_server() as server:
        run(pcclip, "prompt", photos, *words, "--ask.base_url", server.url, "--model", saved, cwd=empty)
    assert (empty / "classes.csv").is_file()
    assert len((empty / "texts.jsonl").read_text().splitlines()) == 1


def test_describe(installed: Path, empty: Path, tmp_path: Path) -> None:
    write_pairs(tmp_path, 3)
    inputs = ("--pairs", tmp_path / "pairs.jsonl", "--captions", tmp_path / "captions.jsonl")
    with running_server() as server:
        endpoint = ("--backend", "openai", "--model", "m", "--base_url", server.url)
        run(installed / "pcclip-data", "describe", *inputs, "--output", "differences.jsonl", *endpoint, cwd=empty)
    rows = [json.loads(line) for line in (empty / "differences.jsonl").read_text().splitlines()]
    assert {row["prompt"] for row in rows} == {"difference@1"}
