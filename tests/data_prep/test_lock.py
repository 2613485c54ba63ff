"""One process at a time writes an output, and what a killed one left is removed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.cli import main
from data_prep.files import write_jsonl
from data_prep.lock import output_lock
from data_prep.steps import pairs
from pcclip.atomic import atomic_folder, atomic_text

KILLED = """
import os, signal, sys
os.getpid = lambda: 1  # as in a container
from pathlib import Path
from data_prep.lock import output_lock
from pcclip.atomic import atomic_folder, atomic_text
output = Path(sys.argv[1])
with output_lock(output), atomic_text(output) as stream, atomic_text(output.with_name("rejected.jsonl")):
    with atomic_folder(output) as folder, atomic_text(f"{output}.manifest.json"):
        (folder / "inside").touch()
        signal.raise_signal(signal.SIGKILL)
"""


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    captions, output = tmp_path / "captions.jsonl", tmp_path / "new/out.jsonl"
    write_jsonl(captions, ({"id": str(n), "file": "", "captions": []} for n in range(4)))
    with output_lock(output), pytest.raises(ValueError, match=str(output)):
        pairs.Pairs(captions=str(captions), output=str(output)).run()


def test_the_command_names_the_output_and_ends_with_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "pairs.jsonl"
    with output_lock(output):
        assert main(["shapes", "--output", str(output)]) == 2
    assert str(output) in capsys.readouterr().err


def test_a_lock_is_free_and_gone_after_the_run(tmp_path: Path) -> None:
    captions, output = tmp_path / "captions.jsonl", tmp_path / "pairs.jsonl"
    write_jsonl(captions, ({"id": str(n), "file": "", "captions": []} for n in range(4)))
    for seed in range(2):
        pairs.Pairs(captions=str(captions), output=str(output), seed=seed).run()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"captions.jsonl", "pairs.jsonl", "pairs.jsonl.manifest.json"}


def test_a_killed_process_leaves_no_lock_and_only_its_leftovers_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "screened.jsonl"
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    process = subprocess.run([sys.executable, str(script), str(output)], cwd=Path(__file__).parents[2], check=False)
    assert process.returncode == -signal.SIGKILL
    monkeypatch.setattr("os.getpid", lambda: 1)  # a running process in another container
    with atomic_text(tmp_path / "other.jsonl"), atomic_folder(tmp_path / "folder.v1"):
        assert len(list(tmp_path.iterdir())) == 8
        with output_lock(output):
            left = {path.name.split(".")[1] for path in tmp_path.iterdir() if path != script}
            assert left == {"screened", "other", "folder"}
            assert (tmp_path / ".screened.jsonl.lock").exists()
            assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize("name", ["folder", "folder.v1"])
def test_what_a_killed_step_left_of_a_replaced_folder_is_removed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("pcclip.atomic.remove", lambda path: None)  # killed before it removes the earlier folder
        with atomic_folder(folder):
            pass
    assert len(list(tmp_path.iterdir())) == 2
    with output_lock(folder):
        pass
    assert list(tmp_path.iterdir()) == [folder]


def refuse(*_: object) -> int:
    raise PermissionError(13, "Permission denied")


def test_a_folder_that_cannot_be_written_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.open", refuse)
    monkeypatch.setattr("os.access", lambda *_: False)
    with output_lock(tmp_path / "out.jsonl"):
        assert not list(tmp_path.iterdir())


def test_a_lock_that_cannot_be_opened_in_a_folder_that_can_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(ValueError, match=r"\.out\.jsonl\.lock"), output_lock(tmp_path / "out.jsonl"):
        pass
