"""Fixtures shared by all tests: tiny models, tiny shards, and no network."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from hypothesis import settings as hypothesis_settings

from pcclip.model import DifferenceCLIP, load_clip
from tests.helpers.shards import write_image_shards

os.environ.setdefault("HF_HUB_OFFLINE", "1")
# The same examples on every machine, however slow it is.
hypothesis_settings.register_profile("tests", deadline=None, derandomize=True)
hypothesis_settings.load_profile("tests")
torch.set_num_threads(1)  # also for fixtures of modules, which are made before those of tests
TINY = Path(__file__).parent / "helpers" / "tiny.json"


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _tokenizers_are_built_once() -> Iterator[None]:
    # Building one takes longer than all else that loading a tiny model does.
    build = open_clip.get_tokenizer
    built: dict[str, Any] = {}

    def get_tokenizer(name: str, **settings: Any) -> Any:
        key = json.dumps([open_clip.get_model_config(name)["text_cfg"], settings], sort_keys=True)
        if key not in built:
            built[key] = build(name, **settings)
        return built[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip, "get_tokenizer", get_tokenizer)
        yield


@pytest.fixture
def tiny_config() -> str:
    """Path of a CLIP configuration small enough for any test: 32x32 pictures, width 32, two blocks."""
    return str(TINY)


@pytest.fixture
def tiny_clip(tiny_config: str) -> DifferenceCLIP:
    """A randomly initialised tiny CLIP, the same every time."""
    torch.manual_seed(0)
    return load_clip(tiny_config).eval()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of three image shards: 10 groups of 4 pictures, every ordered pair."""
    return write_image_shards(tmp_path / "shards", groups=10, group_size=4, groups_per_shard=4)
