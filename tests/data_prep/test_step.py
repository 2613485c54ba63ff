"""What all steps do: options and inputs are checked, an output that is up to date stays, one process writes it at a time."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_prep.cli import main
from data_prep.files import write_jsonl
from data_prep.manifest import Manifest
from data_prep.parts import Part, hash64
from data_prep.step import OutputStep, Step, output_lock
from data_prep.steps import pairs
from data_prep.steps.describe import Describe
from data_prep.steps.pairs import Pairs
from data_prep.steps.rewrite import Rewrite
from data_prep.steps.shard import Shard
from data_prep.steps.transfer import Transfer
from data_prep.world.shapes import Shapes, ShapesEval
from pcclip.atomic import atomic_folder, atomic_text
from tests.helpers.fault_server import running_server
from tests.helpers.pair_files import model_options, write_pairs

KILLED = """
import os, signal, sys
os.getpid = lambda: 1  # as in a container
from pathlib import Path
from data_prep.step import output_lock
from pcclip.atomic import atomic_folder, atomic_text
output = Path(sys.argv[1])
with output_lock(output), atomic_text(output) as stream, atomic_text(output.with_name("rejected.jsonl")):
    with atomic_folder(output) as folder, atomic_text(f"{output}.manifest.json"):
        (folder / "inside").touch()
        signal.raise_signal(signal.SIGKILL)
"""


@pytest.fixture
def options(tmp_path: Path) -> Pairs:
    captions = tmp_path / "captions.jsonl"
    write_jsonl(captions, ({"id": str(n), "file": "", "captions": []} for n in range(40)))
    options = Pairs(captions=str(captions), output=str(tmp_path / "pairs.jsonl"))
    options.run()
    return options


def test_an_output_is_made_again_only_when_something_changed(
    options: Pairs, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(options.output)
    before = output.read_bytes()
    assert sorted(path.name for path in output.parent.iterdir()) == [
        "captions.jsonl",
        "pairs.jsonl",
        "pairs.jsonl.manifest.json",
    ]
    options.run()
    assert "is up to date" in capsys.readouterr().out
    recorded = json.loads(Path(options.output + ".manifest.json").read_text())
    assert recorded["output"]["bytes"] == len(before)
    assert len(recorded["output"]["sha256"]) == 64
    assert {"seed", "images"} <= recorded["options"].keys()
    assert not {"captions", "output"} & recorded["options"].keys()
    replace(options, seed=1).run()
    assert output.read_bytes() != before
    options.run()
    assert output.read_bytes() == before


NOWHERE: dict[str, Any] = {"captions": "nowhere.jsonl", "output": "out"}


@pytest.mark.parametrize(
    ("step", "option"),
    [
        (Pairs(**NOWHERE), "captions"),
        (Describe(**NOWHERE, pairs="nowhere.jsonl"), "pairs"),
        (Rewrite(**NOWHERE, model="m"), "captions"),
        (Transfer(**NOWHERE, differences="nowhere.jsonl", to_captions="nowhere.jsonl"), "differences"),
        (Shard(captions=["nowhere.jsonl"], output="out"), "captions"),
        (Shard(captions=[__file__], differences=["nowhere.jsonl"], output="out"), "differences"),
    ],
)
def test_a_missing_input_is_named(step: Step, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=rf"nowhere\.jsonl: `{option}` of the step {step.name} not found"):
        step.run()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", [0, 1])
def test_a_changed_output_is_neither_up_to_date_nor_overwritten(options: Pairs, seed: int) -> None:
    output = Path(options.output)
    whole = output.read_bytes()
    for changed in (whole[: len(whole) // 2], whole.replace(b"r0g00000", b"r0g00009", 1)):
        output.write_bytes(changed)
        with pytest.raises(ValueError, match=str(output)):
            replace(options, seed=seed).run()
        assert output.read_bytes() == changed
    output.unlink()
    options.run()
    assert output.read_bytes() == whole


def test_an_input_that_changes_during_the_run_is_named(
    options: Pairs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = Path(options.captions)
    deal = pairs.deal

    def editing(*arguments: Any) -> Iterator[Any]:
        yield from deal(*arguments)
        captions.write_bytes(captions.read_bytes().replace(b'"39"', b'"40"'))

    options = replace(options, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(pairs, "deal", editing)
        with pytest.raises(ValueError, match=str(captions)):
            options.run()
    options.run()
    assert "up to date" not in capsys.readouterr().out
    assert '"40"' in Path(options.output).read_text()


def test_a_run_killed_before_its_manifest_is_run_again(options: Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(options, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            options.run()
    options.run()
    assert Path(options.output + ".manifest.json").is_file()


def test_an_edited_answer_of_a_model_is_kept_and_a_missing_one_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path, 6)
    output = tmp_path / "differences.jsonl"
    with running_server() as server:
        options = model_options(tmp_path, server)
        options.run()
        asked = server.asked.total()
        lines = output.read_text().splitlines(keepends=True)
        rows = [json.loads(lines[0]) | {"text": "edited by hand"}, *map(json.loads, lines[1:-1])]
        output.write_text("".join(json.dumps(row) + "\n" for row in rows))
        options.run()
        assert server.asked.total() == asked + 1
        capsys.readouterr()
        options.run()
        assert server.asked.total() == asked + 1
    assert "up to date" in capsys.readouterr().out
    assert "edited by hand" in output.read_text()


@pytest.mark.parametrize(
    ("step", "table"),
    [
        (Shapes(output="out", workers=1, train=2, val=1, test=1, per_class=1), "train/captions.jsonl"),
        (ShapesEval(output="out", workers=1, per_combination=1, probe=1), "edits.jsonl"),
    ],
)
def test_a_cut_or_missing_file_of_a_folder_is_noticed(
    step: OutputStep, table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    step.run()
    output = Path("out")
    (output / "added by a user.txt").touch()
    capsys.readouterr()
    step.run()
    assert "up to date" in capsys.readouterr().out
    for file in (output / table, next(output.rglob("*.png"))):
        whole = file.read_bytes()
        file.write_bytes(whole[:-3])
        with pytest.raises(ValueError, match=str(file)):
            step.run()
        file.unlink()
        step.run()
        assert file.read_bytes() == whole
    assert "up to date" not in capsys.readouterr().out


def test_a_second_process_is_refused(options: Pairs, capsys: pytest.CaptureFixture[str]) -> None:
    with output_lock(Path(options.output)):
        assert main(["pairs", "--captions", options.captions, "--output", options.output, "--seed", "1"]) == 2
        assert options.output in capsys.readouterr().err
    options.run()  # the lock is free


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


def test_a_folder_that_cannot_be_written_needs_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.open", refuse)
    with pytest.raises(ValueError, match=r"\.out\.jsonl\.lock"), output_lock(tmp_path / "out.jsonl"):
        pass
    monkeypatch.setattr("os.access", lambda *_: False)
    with output_lock(tmp_path / "out.jsonl"):
        assert not list(tmp_path.iterdir())


KEYS = [f"image {i}" for i in range(4000)] + ["", "käse", "\ud83d"]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_each_key_is_in_exactly_one_of_parts_of_about_equal_size(count: int) -> None:
    assert Part.parse(None, "x") == Part(0, 1)
    parts = [Part.parse(f"{k}/{count}", "x") for k in range(1, count + 1)]
    assert all(sum(part.holds(key) for part in parts) == 1 for key in KEYS)
    sizes = [sum(part.holds(key) for key in KEYS) for part in parts]
    assert min(sizes) > 0.85 * len(KEYS) / count


def test_the_part_of_a_key_never_changes() -> None:
    assert [hash64(key) % 4 for key in KEYS[:8]] == [1, 1, 0, 3, 3, 3, 1, 2]


@pytest.mark.parametrize(
    "text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "1/4/4", " 1/4", "1.0/4", "a/b", "1/4\n", "1/" + "9" * 5000]
)
def test_bad_parts_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"describe\.part"):
        Part.parse(text, "describe.part")
