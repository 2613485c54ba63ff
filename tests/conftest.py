"""Fixtures shared by all tests: tiny models, tiny shards, and no network.

Heavy modules are imported where they are used: pytest-xdist's controlling process loads this file and runs no test.
"""

import functools
import gc
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pcclip.model import DifferenceCLIP

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ["OMP_NUM_THREADS"] = "1"  # also for processes that tests start
TINY = Path(__file__).parent / "helpers" / "tiny.json"


def pytest_collection() -> None:
    """Prepare a process that runs tests, before it imports them."""
    from hypothesis import settings

    # The same examples on every machine, however slow it is.
    settings.register_profile("tests", deadline=None, derandomize=True, max_examples=60)
    settings.load_profile("tests")
    gc.disable()  # modules stay: looking for garbage in them takes seconds


def pytest_collection_finish() -> None:
    """Leave the modules out of garbage collections."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _made_once() -> Iterator[None]:
    # Tokenizers take longer than all else in loading a tiny model, docstrings of fields a third of making a parser.
    import docstring_parser
    import open_clip

    build = open_clip.get_tokenizer
    built: dict[str, Any] = {}

    def get_tokenizer(name: str, **settings: Any) -> Any:
        key = json.dumps([open_clip.get_model_config(name)["text_cfg"], settings], sort_keys=True)
        if key not in built:
            built[key] = build(name, **settings)
        return built[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip, "get_tokenizer", get_tokenizer)
        patch.setattr(docstring_parser, "parse_from_object", functools.cache(docstring_parser.parse_from_object))
        yield


@pytest.fixture
def tiny_config() -> str:
    """Path of a CLIP configuration small enough for any test: 32x32 pictures, width 32, two blocks."""
    return str(TINY)


@pytest.fixture
def tiny_clip(tiny_config: str) -> "DifferenceCLIP":
    """A randomly initialised tiny CLIP, the same every time."""
    import torch

    from pcclip.model import load_clip

    torch.manual_seed(0)
    return load_clip(tiny_config).eval()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of three image shards: 10 groups of 4 pictures, every ordered pair."""
    from tests.helpers.shards import write_image_shards

    return write_image_shards(tmp_path / "shards", groups=10, group_size=4, groups_per_shard=4)
