"""A full disk ends a step with one line that names the path, and leaves nothing half-written."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_prep.cli import main


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize(
    ("step", "size", "named"),
    [
        (["captions", "--source", "jsonl", "--input", "CAPTIONS", "--workers", "1"], 4096, "out.x"),
        (["pairs", "--captions", "CAPTIONS"], 4096, "out.x"),
        (["describe", "--backend", "compose", "--captions", "CAPTIONS", "--pairs", "PAIRS"], 4096, "out.x"),
        (["screen", "--differences", "DIFFERENCES"], 4096, "folder/"),
        (["shard", "--captions", "[CAPTIONS]", "--differences", "[DIFFERENCES]"], 65536, "000000.tar"),
    ],
)
def test_a_full_disk(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], step: list[str], size: int, named: str
) -> None:
    files = {
        "CAPTIONS": world / "shapes/train/captions.jsonl",
        "PAIRS": world / "pairs.jsonl",
        "DIFFERENCES": world / "differences.jsonl",
    }
    for name, file in files.items():
        step = [word.replace(name, str(file)) for word in step]
    folder = tmp_path / "folder"
    with full_disk(size):
        assert main([*step, "--output", str(folder / "out.x")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert {path.name for path in folder.rglob("*")} <= {"out.x.partial", "plan.json", "shards", "records"}
    assert main([*step, "--output", str(folder / "out.x")]) == 0
