"""The end of a run on one screen."""

import io
import math

import pytest
from rich.console import Console

from pcclip.reports.headlines import headlines
from pcclip.reports.summary import baselines, print_summary, results_page, shown, verdict
from pcclip.results import Result
from tests.reports.test_headlines import DEMO, row, shifted

RESULTS = {"base": DEMO, "finetuned": shifted(DEMO, 0.4), "ensembled 0.7": [
    Result("zero_shot", "shape", "top1", 0.1234, 9, 0, 1, alpha=0.7)
]}  # fmt: skip


def printed(terminal: bool, width: int = 100) -> str:
    stream = io.StringIO()
    print_summary(RESULTS, Console(file=stream, force_terminal=terminal, width=width, _environ={"TERM": "xterm"}))
    return stream.getvalue()


def test_plain_where_no_terminal_is() -> None:
    text = printed(terminal=False)
    assert "\x1b" not in text
    lines = text.splitlines()
    assert len(lines) <= 15
    assert all(len(line) <= 110 for line in lines)
    assert sum("50 % ->" in " ".join(line.split()) for line in lines) == 10
    assert "ensembled" not in text


def test_coloured_on_a_terminal() -> None:
    assert "\x1b[32m" in printed(terminal=True)


def test_a_narrow_terminal_has_a_line_for_each_headline_without_its_interval() -> None:
    wide, narrow = (printed(terminal=True, width=width).partition("Baselines")[0] for width in (94, 80))
    for table in (wide, narrow):
        assert len([line for line in table.splitlines() if line]) == 1 + 10  # no line is wrapped
    assert "95 % interval" in wide
    assert "95 % interval" not in narrow


def test_one_model_has_one_column(capsys: pytest.CaptureFixture[str]) -> None:
    print_summary({"base": DEMO})
    text = capsys.readouterr().out
    assert "->" not in text
    assert text.count("50 %") >= 10


def test_page_has_a_table_for_each_task_with_its_main_metrics_first() -> None:
    page = results_page(RESULTS)
    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == [
        "attribute_ranking", "difference_texts", "zero_shot", "retrieval",
    ]  # fmt: skip
    ranking = [line for line in page.splitlines() if line.startswith("| attribute_ranking")]
    assert len(ranking) == 40
    assert all("| forced_choice " in line for line in ranking[:8])
    assert "`demo_second_leads`:" in page
    assert "0.123" in page


def test_undefined_numbers_and_what_is_beyond_chance() -> None:
    assert shown(row("zero_shot", "s", "top1", math.nan)) == shown(None) == "-"
    low, high = row("zero_shot", "s", "top1", 0.5), row("zero_shot", "s", "top1", 0.8)
    assert [verdict(headlines([one], [two])[0]) for one, two in ((low, high), (high, low), (low, low))] == [
        "better", "worse", "",
    ]  # fmt: skip
    assert verdict(headlines([low], [])[0]) == ""


def test_baselines_name_the_range() -> None:
    assert baselines(headlines(DEMO, [])).count("50 %") == 3
    assert baselines(headlines([row("zero_shot", "s", "top1")], [])) == ""
