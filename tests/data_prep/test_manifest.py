"""An output counts as up to date only while it and its inputs are what they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data_prep.files import write_jsonl
from data_prep.manifest import Manifest
from data_prep.step import OutputStep
from data_prep.steps import pairs
from data_prep.world.shapes import Shapes
from data_prep.world.shapes_eval import ShapesEval
from tests.helpers.fault_server import running_server
from tests.helpers.pair_files import model_options, write_pairs


@pytest.fixture
def options(tmp_path: Path) -> pairs.Pairs:
    captions = tmp_path / "captions.jsonl"
    write_jsonl(captions, ({"id": str(n), "file": "", "captions": []} for n in range(40)))
    options = pairs.Pairs(captions=str(captions), output=str(tmp_path / "pairs.jsonl"))
    options.run()
    return options


@pytest.mark.parametrize("seed", [0, 1])
def test_a_changed_output_is_neither_up_to_date_nor_overwritten(options: pairs.Pairs, seed: int) -> None:
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


def test_the_manifest_holds_size_and_hash(options: pairs.Pairs) -> None:
    recorded = json.loads(Path(options.output + ".manifest.json").read_text())["output"]
    assert recorded["bytes"] == Path(options.output).stat().st_size
    assert len(recorded["sha256"]) == 64


def test_an_input_that_changes_during_the_run_is_named(
    options: pairs.Pairs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
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


def test_a_run_killed_before_its_manifest_is_run_again(options: pairs.Pairs, monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize("kind", ["shapes", "shapes_eval"])
def test_a_cut_or_missing_file_of_a_folder_is_noticed(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    step: OutputStep
    if kind == "shapes":
        step, table = Shapes(output=str(output), workers=1, train=2, val=1, test=1, per_class=1), "train/captions.jsonl"
    else:
        step, table = ShapesEval(output=str(output), workers=1, per_combination=1, probe=1), "edits.jsonl"
    step.run()
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
