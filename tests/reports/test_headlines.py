"""The numbers that matter, chosen from rows."""

import math
from dataclasses import replace
from typing import Any

import pytest

from pcclip.reports.headlines import before_and_after, headlines
from pcclip.results import Result


def row(task: str, subset: str, metric: str, value: float = 0.5, **fields: Any) -> Result:
    return Result(task, subset, metric, value, 100, value - 0.1, value + 0.1, **fields)


def attribute_rows(name: str, attributes: list[str]) -> list[Result]:
    metrics = ("sign_accuracy", "forced_choice", "prompt_forced_choice", "ceiling_forced_choice", "spearman")
    return [row("attribute_ranking", f"{name}/{each}", metric) for each in attributes for metric in metrics]


def shifted(rows: list[Result], by: float) -> list[Result]:
    return [replace(each, value=each.value + by, low=each.low + by, high=each.high + by) for each in rows]


DEMO = [
    *attribute_rows("demo", ["size", "count", "brightness", "position"]),
    *attribute_rows("demo_second_leads", ["size", "count", "brightness", "position"]),
    *(row("difference_texts", subset, metric) for subset in ("demo", "demo/new_texts")
      for metric in ("sign_accuracy", "forced_choice", "role_test", "swapped_choice", "caption_forced_choice")),
    *(row("zero_shot", name, metric) for name in ("shape", "colour", "unseen") for metric in ("top1", "top5")),
    *(row("retrieval", "demo", f"text_to_image_recall{depth}") for depth in (1, 5, 10)),
]  # fmt: skip


def test_demo_has_ten_in_words_with_tags_of_their_own() -> None:
    found = headlines(DEMO, shifted(DEMO, 0.3))
    assert [headline.tag for headline in found] == [
        "size_forced_choice", "count_forced_choice", "brightness_forced_choice", "position_forced_choice",
        "demo_second_leads_forced_choice",
        "difference_texts_forced_choice", "difference_texts_role_test", "difference_texts_swapped_choice",
        "zero_shot_top1", "retrieval_text_to_image_recall10",
    ]  # fmt: skip
    assert len({headline.label for headline in found}) == 10
    for headline in found:
        assert headline.before is not None
        assert headline.after is not None
        assert headline.after.value == pytest.approx(headline.before.value + 0.3)
        assert "_" not in headline.label
        assert headline.is_share
    assert len(found[0].baselines) == 2
    assert found[4].before is not None
    assert found[4].before.n == 400
    assert [len(headline.baselines) for headline in found[5:]] == [1, 0, 0, 0, 0]
    zero_shot = found[8].before
    assert zero_shot is not None
    assert (zero_shot.subset, zero_shot.n, zero_shot.value) == ("shape, colour, unseen", 300, 0.5)
    assert all(name in found[8].label for name in ("shape", "colour", "unseen"))


def test_sets_are_named_if_attributes_alone_are_too_many() -> None:
    sets = [row("zero_shot", name, "top1") for name in ("cub", "cub_kind", "cub_single")]
    found = headlines([*sets, *attribute_rows("cub", [f"attribute {number}" for number in range(85)])], [])
    assert [headline.tag for headline in found] == [
        "cub_top1", "cub_kind_top1", "cub_single_top1", "cub_forced_choice"
    ]  # fmt: skip


def test_many_sets_are_counted() -> None:
    (found,) = headlines([row("zero_shot", f"set{number}", "top1") for number in range(11)], [])
    assert "11 sets" in found.label


def test_few_sets_are_named() -> None:
    found = headlines([row("zero_shot", name, "top1") for name in ("cifar10", "unseen")], [])
    assert [headline.tag for headline in found] == ["cifar10_top1", "unseen_top1"]
    assert "cifar10" in found[0].label


def test_what_is_averaged_has_the_mean_of_values_and_intervals() -> None:
    sizes = [
        row("attribute_ranking", "b/size", "forced_choice", 0.4),
        row("attribute_ranking", "b/x", "forced_choice", 0.8),
    ]
    (_, mean) = headlines([row("attribute_ranking", "a/size", "forced_choice"), *sizes], [])
    assert mean.before is not None
    assert (mean.before.value, mean.before.low, mean.before.high) == pytest.approx((0.6, 0.5, 0.7))
    undefined = [sizes[0], replace(sizes[1], value=math.nan)]
    (_, mean) = headlines([row("attribute_ranking", "a/size", "forced_choice"), *undefined], [])
    assert mean.before is not None
    assert math.isnan(mean.before.value)


def test_many_attributes_and_sets_are_averaged_and_many_kinds_cut() -> None:
    many = attribute_rows("awa2", [f"attribute {number}" for number in range(85)])
    (one,) = headlines(many, many)
    assert one.before is not None
    assert one.before.n == 8500
    sets = [
        row("difference_texts", f"set{number}", metric)
        for number in range(20)
        for metric in ("forced_choice", "role_test")
    ]
    found = headlines(sets, [])
    assert [headline.tag for headline in found] == ["difference_texts_forced_choice", "difference_texts_role_test"]
    found = headlines([row(f"kind{number}", "mine", "error") for number in range(20)], [])
    assert [headline.tag for headline in found] == [f"kind{number}_error" for number in range(10)]


def test_metrics_with_factors_show_one_or_the_middle_one() -> None:
    rows = [
        *(row("arithmetic", "grid", "recall1", factor / 10, factor=factor) for factor in (0.0, 0.5, 1.0, 1.5)),
        row("arithmetic", "grid", "target_recall1", 0.9),
        *(row("comparative_prompting", "cub/all", "top1_texts", factor, factor=factor) for factor in (0.7, 0.8, 0.9)),
        row("comparative_prompting", "cub/all", "top1_plain", 0.6),
        row("comparative_prompting", "cub/confused", "top1_plain", 0.1),
    ]
    edits, texts = headlines(rows, [])
    assert edits.before is not None
    assert (edits.before.factor, edits.before.value) == (1.0, 0.1)
    assert [baseline.value for baseline in edits.baselines.values()] == [0.9]
    assert texts.before is not None
    assert texts.before.factor == 0.8
    assert [baseline.value for baseline in texts.baselines.values()] == [0.6]


def test_tasks_of_other_kinds_show_their_first_metric() -> None:
    (found,) = headlines([], [row("my_task", "mine", "error", 3.0), row("my_task", "mine", "other", 1.0)])
    assert (found.before, found.is_share) == (None, False)
    assert found.after is not None
    assert found.after.value == 3.0
    assert "my task" in found.label


def test_models_to_compare_are_the_first_and_the_last_whole_one() -> None:
    def model(alpha: float | None, value: float = 0.5) -> list[Result]:
        return [row("zero_shot", "s", "top1", value, alpha=alpha)]

    trained = {"base": model(0.0), "finetuned": model(1.0), "ensembled 0.7": model(0.7)}
    assert before_and_after(trained) == (model(0.0), model(1.0))
    assert before_and_after({"finetuned": model(1.0), "ensembled 0.7": model(0.7)}) == ([], model(1.0))
    assert before_and_after({"base": model(0.0)}) == (model(0.0), [])
    assert before_and_after({"base": model(0.0), "mine": model(0.0, 0.9)}) == (model(0.0), model(0.0, 0.9))
    assert before_and_after({}) == ([], [])
