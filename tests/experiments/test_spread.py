"""The table over several runs: its numbers, what it refuses, and that the prose around it survives."""

import json
from pathlib import Path
from typing import Any

import pytest

from pcclip.experiments.__main__ import main
from pcclip.experiments.spread import write_part
from pcclip.reports.rows import read_runs, spread
from pcclip.results import Result, write_results


def rows(top1: float, n: int = 40) -> dict[str, list[Result]]:
    return {
        "base": [Result("zero_shot", "shape", "top1", 0.5, 40, 0.4, 0.6)],
        "finetuned": [
            Result("zero_shot", "shape", "top1", top1, n, 0.0, 1.0),
            Result("attribute_ranking", "demo/size", "spearman", -top1, 20, float("nan"), float("nan")),
        ],
    }


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Three runs."""
    return [
        str(write_results(tmp_path / f"{seed}" / "results.json", rows(value))[0])
        for seed, value in enumerate([0.9, 0.6, 0.75])
    ]


def test_mean_and_extremes(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spread", *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Mean [lowest, highest] of 3 runs."
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        "task", "subset", "metric", "base", "finetuned", "n",
    ]  # fmt: skip
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    assert cells == [
        ["zero_shot", "shape", "top1", "0.500 [0.500, 0.500]", "0.750 [0.600, 0.900]", "40"],
        ["attribute_ranking", "demo/size", "spearman", "-", "-0.750 [-0.900, -0.600]", "20"],
    ]


def test_only_chosen_metrics(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spread", *files, "--metrics", "[spearman]"]) == 0
    out = capsys.readouterr().out
    assert "spearman" in out
    assert "top1" not in out


def test_undefined_in_one_run_is_undefined(files: list[str]) -> None:
    rows = read_runs(files)
    rows.loc[(rows["run"] == files[1]) & (rows["model"] == "base"), "value"] = float("nan")
    base = spread(rows).set_index("model").loc["base"]
    assert base[["value", "low", "high"]].isna().all()


def test_other_n_is_said(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    write_results(files[1], rows(0.6, n=39))
    assert main(["spread", *files]) == 0
    out = capsys.readouterr().out
    assert "the smallest is given" in out.splitlines()[0]
    assert "| 39 / 40 |" in out  # finetuned / base


def test_unlike_runs_are_refused(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    whole = rows(0.6)
    for broken, lacking in (
        ({"base": whole["base"]}, "finetuned zero_shot/shape/top1"),
        (whole | {"finetuned": whole["finetuned"][:1]}, "finetuned attribute_ranking/demo/size/spearman"),
    ):
        write_results(files[1], broken)
        assert main(["spread", *files]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"spread: error: {files[1]}: ")
        assert lacking in error
        assert files[0] in error


ROW: dict[str, Any] = {
    "model": "base", "task": "zero_shot", "subset": "", "metric": "top1", "value": 0.5, "n": 4, "low": None, "high": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSON"),
        ("[]", "result row"),
        ('{"a": 1}', "list of result rows"),
        (json.dumps([ROW, ROW]), "row 2: base zero_shot/top1 "),
        (json.dumps([ROW | {"value": "good"}]), "row 1: value: "),
        (json.dumps([{key: ROW[key] for key in ROW if key != "n"}]), "row 1: n: "),
        (json.dumps([ROW | {"model": 3}]), "row 1: model: "),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"results\.json") as raised:
        read_runs([file])
    assert message in str(raised.value)


def test_what_is_given_must_make_sense(files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "results.md"
    for arguments, message in (
        ([files[0] + "x"], "x: results not found"),
        ([files[0]], "given twice"),
        ([*files[1:], "--metrics", "[top2]"], "top2"),
        ([*files[1:], "--output", str(output), "--title", "a-->b"], "a-->b"),  # which would end the mark
    ):
        assert main(["spread", files[0], *arguments]) == 2
        assert message in capsys.readouterr().err
    assert not output.exists()


def test_prose_survives(files: list[str], tmp_path: Path) -> None:
    output = tmp_path / "docs" / "results.md"
    assert main(["spread", *files, "--output", str(output), "--title", "demo"]) == 0
    table = output.read_text()
    assert table.startswith("<!-- spread:demo -->\n\nMean")
    assert table.endswith("|\n\n<!-- /spread:demo -->\n")

    around = ("# Results\r\n\nBefore.\n", "\n\nAfter, with no line end.")
    output.write_bytes(f"{around[0]}<!-- spread:demo -->old<!-- /spread:demo -->{around[1]}".encode())
    assert main(["spread", *files, "--output", str(output), "--title", "demo"]) == 0
    assert output.read_bytes().decode() == around[0] + table.strip() + around[1]

    assert main(["spread", *files[:2], "--output", str(output), "--title", "photos"]) == 0
    both = output.read_bytes().decode()
    assert both.startswith(around[0] + table.strip() + around[1] + "\n\n<!-- spread:photos -->\n\nMean")
    assert main(["spread", *files[:2], "--output", str(output), "--title", "photos"]) == 0
    assert output.read_bytes().decode() == both
    assert [path.name for path in output.parent.iterdir()] == ["results.md"]


@pytest.mark.parametrize(
    "document",
    [
        "<!-- spread:a -->",
        "<!-- /spread:a -->",
        "<!-- /spread:a --> <!-- spread:a -->",
        "<!-- spread:a --> <!-- spread:a --> <!-- /spread:a -->",
    ],
)
def test_broken_marks_are_refused(tmp_path: Path, document: str) -> None:
    file = tmp_path / "results.md"
    file.write_text(document)
    with pytest.raises(ValueError, match=r"results\.md.*spread:a"):
        write_part(file, "a", "text")
    assert file.read_text() == document
