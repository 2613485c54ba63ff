"""Inputs of the wrong kind are not called missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pcclip.data.format import DatasetInfo
from pcclip.datasets.annotations import read_comparatives
from pcclip.datasets.tables import read_table
from pcclip.datasets.texts import read_texts
from pcclip.model import load_clip
from pcclip.results import read_results
from pcclip.tools.attributes import read_attribute


@pytest.mark.parametrize(
    "read",
    [
        read_comparatives,
        read_texts,
        read_results,
        lambda file: read_table(file, "path"),
        lambda file: read_attribute("size", file),
        lambda file: load_clip(str(file)),
    ],
)
def test_a_folder_in_place_of_a_file(read: Callable[[Path], Any], tmp_path: Path) -> None:
    file = tmp_path / "thing.json"
    with pytest.raises(FileNotFoundError, match=r"thing\.json"):
        read(file)
    file.mkdir()
    with pytest.raises(IsADirectoryError, match=r"thing\.json"):
        read(file)


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="shards"):
        DatasetInfo.read(tmp_path / "shards")
    (tmp_path / "shards").touch()
    with pytest.raises(NotADirectoryError, match="shards"):
        DatasetInfo.read(tmp_path / "shards")
