"""An output counts as up to date only while it and its inputs are what they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from data_prep import describe, pairs, shapes, shapes_eval
from data_prep.files import write_jsonl
from data_prep.manifest import Manifest
from tests.helpers.fault_server import running_server
from tests.helpers.pair_files import model_options, write_pairs


@pytest.fixture
def options(tmp_path: Path) -> pairs.Options:
    captions = tmp_path / "captions.jsonl"
    write_jsonl(captions, ({"id": str(n), "file": "", "captions": []} for n in range(40)))
    options = pairs.Options(str(captions), str(tmp_path / "pairs.jsonl"))
    pairs.run(options)
    return options


@pytest.mark.parametrize("seed", [0, 1])
def test_a_changed_output_is_neither_up_to_date_nor_overwritten(options: pairs.Options, seed: int) -> None:
    output = Path(options.output)
    whole = output.read_bytes()
    for changed in (whole[: len(whole) // 2], whole.replace(b"r0g00000", b"r0g00009", 1)):
        output.write_bytes(changed)
        with pytest.raises(ValueError, match=str(output)):
            pairs.run(replace(options, seed=seed))
        assert output.read_bytes() == changed
    output.unlink()
    pairs.run(options)
    assert output.read_bytes() == whole


def test_the_manifest_holds_size_and_hash(options: pairs.Options) -> None:
    recorded = json.loads(Path(options.output + ".manifest.json").read_text())["output"]
    assert recorded["bytes"] == Path(options.output).stat().st_size
    assert len(recorded["sha256"]) == 64


def test_an_input_that_changes_during_the_run_is_named(
    options: pairs.Options, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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
            pairs.run(options)
    pairs.run(options)
    assert "up to date" not in capsys.readouterr().out
    assert '"40"' in Path(options.output).read_text()


def test_a_run_killed_before_its_manifest_is_run_again(options: pairs.Options, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(options, seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pairs.run(options)
    pairs.run(options)
    assert Path(options.output + ".manifest.json").is_file()


def test_an_edited_answer_of_a_model_is_kept_and_a_missing_one_asked_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pairs(tmp_path, 6)
    output = tmp_path / "differences.jsonl"
    with running_server() as server:
        options = model_options(tmp_path, server)
        describe.run(options)
        asked = server.asked.total()
        lines = output.read_text().splitlines(keepends=True)
        rows = [json.loads(lines[0]) | {"text": "edited by hand"}, *map(json.loads, lines[1:-1])]
        output.write_text("".join(json.dumps(row) + "\n" for row in rows))
        describe.run(options)
        assert server.asked.total() == asked + 1
        capsys.readouterr()
        describe.run(options)
        assert server.asked.total() == asked + 1
    assert "up to date" in capsys.readouterr().out
    assert "edited by hand" in output.read_text()


@pytest.mark.parametrize("step", [shapes, shapes_eval])
def test_a_cut_or_missing_file_of_a_folder_is_noticed(
    step: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = (
        {"train": 2, "val": 1, "test": 1, "per_class": 1} if step is shapes else {"per_combination": 1, "probe": 1}
    )
    table, picture = ("train/captions.jsonl", "*.png") if step is shapes else ("edits.jsonl", "*.png")
    output = tmp_path / "out"
    options = step.Options(output=str(output), workers=1, **numbers)
    step.run(options)
    (output / "added by a user.txt").touch()
    capsys.readouterr()
    step.run(options)
    assert "up to date" in capsys.readouterr().out
    for file in (output / table, next(output.rglob(picture))):
        whole = file.read_bytes()
        file.write_bytes(whole[:-3])
        with pytest.raises(ValueError, match=str(file)):
            step.run(options)
        file.unlink()
        step.run(options)
        assert file.read_bytes() == whole
    assert "up to date" not in capsys.readouterr().out
