"""Plots over a factor: which rows are taken, what several runs come to, and what is refused."""

from pathlib import Path

import pytest

from pcclip.data.picture_files import is_own_png
from pcclip.experiments.__main__ import main
from pcclip.experiments.factor_plot import points
from pcclip.reports.rows import read_runs
from pcclip.results import Result, read_results, write_results


def write(file: Path, shift: float = 0.0) -> Path:
    rows = [
        Result("arithmetic", "grid", metric, value + shift, 10, value + shift - 0.1, value + shift + 0.1, factor)
        for metric, value, factor in (
            ("recall1", 0.4, 2), ("recall1", 0.2, 0.5), ("recall1", 0.1, 12),
            ("difference_recall1", 0.3, 2), ("recall1_lowest", 0.0, None), ("target_recall1", 0.25, None),
        )
    ]  # fmt: skip
    other = [Result("arithmetic", "other", "recall1", 0.9, 10, 0.8, 1.0, 2)]
    write_results(file, {"base": rows + other, "finetuned": rows + other})
    return file


def test_points_are_the_metrics_own_in_order_of_the_factor(tmp_path: Path) -> None:
    files = [write(tmp_path / "one.json"), write(tmp_path / "two.json", shift=0.02)]

    def of_grid(runs: list[Path], model: str) -> list[list[float]]:
        rows = read_runs(runs)
        found = points(rows[(rows["subset"] == "grid") & (rows["model"] == model)], ["recall1"])
        return [found[column].tolist() for column in ("factor", "value", "low", "high")]

    factors, values, lows, highs = of_grid(files[:1], "base")
    assert factors == [0.5, 2, 12]
    assert values == [0.2, 0.4, 0.1]
    assert lows == pytest.approx([0.1, 0.3, 0.0])
    assert highs == pytest.approx([0.3, 0.5, 0.2])

    factors, values, lows, highs = of_grid(files, "finetuned")
    assert values == pytest.approx([0.21, 0.41, 0.11])
    assert lows == pytest.approx([0.2, 0.4, 0.1])  # of the runs, not of their intervals
    assert highs == pytest.approx([0.22, 0.42, 0.12])


def test_picture_of_several_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(write(tmp_path / "one.json")), str(write(tmp_path / "two.json", shift=0.02))]
    other_task = Result("zero_shot", "shape", "top1", 0.5, 10, 0.4, 0.6)  # another task, of one file only, is ignored
    write_results(files[0], read_results(files[0]) | {"base": [*read_results(files[0])["base"], other_task]})
    only_one = read_results(files[1]) | {"ensembled 0.5": read_results(files[1])["base"]}
    write_results(files[1], only_one)
    picture = tmp_path / "pictures" / "plot.png"
    options = ["--task", "arithmetic", "--subset", "grid", "--curves", "[recall1, difference_recall1]"]
    options += ["--lines", "[target_recall1]", "--factor", "lambda", "--output", str(picture)]
    assert main(["factor_plot", *files, *options]) == 2
    assert "ensembled 0.5" in capsys.readouterr().err
    assert main(["factor_plot", *files, *options, "--models", "[base, finetuned]"]) == 0  # what both have
    assert capsys.readouterr().err == ""
    unmeasured = ["--curves", "[recall1, class_means_recall1]", "--models", "[base]"]
    assert main(["factor_plot", *files, *options, *unmeasured]) == 0
    captured = capsys.readouterr()
    assert "class_means_recall1" in captured.err
    assert str(picture) in captured.out
    assert is_own_png(str(picture))  # so that no tool takes it for a picture


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--subset", "gird", "--curves", "[recall1]"], "arithmetic grid, arithmetic other"),
        (["--subset", "grid", "--curves", "[recall]"], "recall "),
        (["--subset", "grid", "--curves", "[target_recall1]"], "target_recall1 "),
        (["--subset", "grid", "--curves", "[recall1]", "--lines", "[recall5]"], "recall5"),
        (["--subset", "grid", "--curves", "[recall1]", "--models", "[mine]"], "mine"),
    ],
)
def test_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], named: str) -> None:
    file = str(write(tmp_path / "one.json"))
    assert main(["factor_plot", file, "--task", "arithmetic", *options, "--output", str(tmp_path / "plot.png")]) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "plot.png").exists()
