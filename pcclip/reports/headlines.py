"""Choose at most ten headline metrics of a run. The terminal, the report and TensorBoard show the same ones."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pcclip.results import Result

MOST = 10
# Tried in turn until there are few enough: whether each set has its own headlines, whether each attribute of the first set of
# attributes has one, and the number of main metrics of a kind of task (None: all).
_STEPS = ((True, True, None), (False, True, None), (True, False, None), (False, False, None), (False, False, 1))


@dataclass(frozen=True)
class Headline:
    """One headline metric, before and after training."""

    label: str
    """Description in words."""
    tag: str
    """Short name, unique among the headlines: `summary/<tag>` in TensorBoard."""
    before: Result | None
    """Result of the base model, if measured.

    For a mean of several subsets, `subset` names their sets and `n` is the sum. The interval is the mean of the subsets'
    intervals, which is at least as wide as the interval of the mean."""
    after: Result | None
    """Result of the finetuned model, if measured."""
    baselines: Mapping[str, Result]
    """Results of other methods on the same items, by name: without difference texts, or with supervision."""
    is_share: bool = True
    """Whether the value is a fraction from 0 to 1, shown as a percentage."""


@dataclass(frozen=True)
class _Main:
    """A main metric of a kind of task."""

    names: Mapping[str, str]
    """Alternative metrics, each with its description. The first one that was measured is used."""
    baselines: Mapping[str, str] = field(default_factory=dict)
    """Name of each baseline, with its metric."""
    part: str | None = None
    """Part of the set to use. None averages all parts."""


_SENTENCE = "which of two {more}, from a sentence"
_MAIN: dict[str, tuple[_Main, ...]] = {
    "attribute_ranking": (
        _Main(
            {"forced_choice": _SENTENCE},
            {"two ordinary prompts": "prompt_forced_choice", "supervised ranker": "ceiling_forced_choice"},
        ),
    ),
    "difference_texts": (
        _Main(
            {"forced_choice": "difference texts: the true one of two"},
            {"subtracted captions": "caption_forced_choice"},
            part="",
        ),
        _Main({"role_test": 'difference texts: right roles of "first" and "second"'}, part=""),
        _Main({"swapped_choice": "difference texts: the true one of two with exchanged roles"}, part=""),
    ),
    "zero_shot": (_Main({"top1": "zero-shot: the right class"}),),
    "comparative_prompting": (
        _Main(
            {"top1_texts": "zero-shot with texts on how classes differ"},
            {"plain prompts": "top1_plain"},
            part="all",
        ),
    ),
    "retrieval": (
        _Main(
            {
                f"text_to_image_recall{depth}": f"retrieval: a caption's picture among the first {depth}"
                for depth in (10, 5, 1)
            }
        ),
    ),
    "arithmetic": (
        _Main({"recall1": "arithmetic: picture plus change in words"}, {"the target's text alone": "target_recall1"}),
    ),
    "analogies": (_Main({"image_by_text": "analogies: pictures moved by words"}),),
    "compositionality": (_Main({"accuracy": "the true caption of two with nearly the same words"}),),
    "generation": (_Main({"forced_choice": "generated images: moved towards what a text says"}),),
    "linear_probe": (
        _Main({"top1_full": "linear probe: the right class", "top1_shots": "few-shot linear probe: the right class"}),
    ),
}
_MORE = {
    "size": "is larger",
    "animal_size": "is larger",
    "count": "shows more",
    "brightness": "is brighter",
    "position": "is further right",
}
_SETS = {
    "demo_second_leads": "second mentioned first",
    "unseen": "combinations unseen in training",
}


@dataclass(frozen=True)
class _Choice:
    """A chosen metric, to be averaged over subsets."""

    main: _Main
    kind: str
    subsets: tuple[str, ...]
    metric: str
    factor: float | None

    @property
    def sets(self) -> list[str]:
        """Names of the sets."""
        return list(dict.fromkeys(subset.partition("/")[0] for subset in self.subsets))

    @property
    def attribute(self) -> str:
        """Name of the attribute, if it is the only one."""
        single = self.kind == "attribute_ranking" and len(self.subsets) == 1
        return self.subsets[0].partition("/")[2] if single else ""

    @property
    def label(self) -> str:
        """Description in words, without the name of the set."""
        words = self.main.names[self.metric]
        if self.kind != "attribute_ranking":
            return words
        if self.attribute:
            return f"{in_words(self.attribute)}: {words.format(more=_MORE.get(self.attribute, 'has more'))}"
        return f"{len(self.subsets)} attributes: which of two has more"

    def of(self, rows: Mapping[tuple[str, str, str, float | None], Result], metric: str | None = None) -> Result | None:
        """Return the mean of a metric over the subsets. None if it was not measured for all of them."""
        metric = metric or self.metric
        found = []
        for subset in self.subsets:
            key = (self.kind, subset, metric)
            row = rows.get((*key, self.factor)) or rows.get((*key, None))  # a baseline may have no factor
            if row is None:
                return None
            found.append(row)
        if len(found) == 1:
            return found[0]
        value, low, high = (
            math.fsum(getattr(row, name) for row in found) / len(found) for name in ("value", "low", "high")
        )
        n = sum(row.n for row in found)
        return Result(self.kind, ", ".join(self.sets), metric, value, n, low, high, self.factor, found[0].alpha)


def compared_models(results: Mapping[str, Sequence[Result]]) -> tuple[str | None, str | None]:
    """Return the names of the models before and after training: the first and the last one that is no weight ensemble.

    A single model is the one after training if its `alpha` is 1, else the one before training.
    """
    whole = [name for name, rows in results.items() if not any(row.alpha and row.alpha < 1 for row in rows)]
    if len(whole) == 1:
        return (None, whole[0]) if any(row.alpha == 1 for row in results[whole[0]]) else (whole[0], None)
    return (whole[0], whole[-1]) if whole else (None, None)


def before_and_after(results: Mapping[str, Sequence[Result]]) -> tuple[list[Result], list[Result]]:
    """Return the rows of the two `compared_models`. They are empty for a missing model."""
    before, after = compared_models(results)
    return list(results.get(before or "", [])), list(results.get(after or "", []))


def headlines(before: Sequence[Result], after: Sequence[Result], most: int = MOST) -> list[Headline]:
    """Choose the headline metrics, in the order of the rows.

    Each kind of task has its main metrics. The first attribute set has a headline for each attribute; other attribute sets
    have the mean over their attributes. If these are more than `most` headlines, try in turn: the mean over the sets of a kind
    of task other than attribute ranking; the mean over the attributes of the first set instead; both; also one metric of each
    kind. Last, truncate the list.

    Args:
        before: Rows of the base model; may be empty.
        after: Rows of the finetuned model; may be empty.
        most: Maximum number of headlines.
    """
    rows = [{row.key: row for row in model} for model in (before, after)]
    keys = list(rows[0] | rows[1])
    for by_set, by_attribute, metrics in _STEPS:
        chosen = _choose(keys, by_attribute, metrics)
        if not by_set:
            chosen = _mean_of_sets(chosen)
        if len(chosen) <= most:
            break
    chosen = chosen[:most]
    labels, tags = Counter(choice.label for choice in chosen), Counter(_tag(choice) for choice in chosen)
    found = []
    for choice in chosen:
        label, tag = choice.label, _tag(choice)
        if len(choice.sets) > 1:
            names = ", ".join(map(in_words, choice.sets)) if len(choice.sets) <= 3 else f"{len(choice.sets)} sets"
            label = f"{label} ({names})"
        elif labels[label] > 1 or _has_named_set(choice):
            label = f"{label} ({part_in_words(choice.sets[0])})"
        if tags[tag] > 1:
            tag = _tag(choice, whole=True)
        values = [choice.of(model) for model in rows]
        references = {
            name: value
            for name, metric in choice.main.baselines.items()
            if (value := choice.of(rows[0], metric) or choice.of(rows[1], metric)) is not None
        }
        found.append(Headline(label, tag, values[0], values[1], references, is_share=choice.kind in _MAIN))
    return found


def explained_sets(results: Mapping[str, Sequence[Result]]) -> dict[str, str]:
    """Return a description of each set that has one, by name."""
    names = dict.fromkeys(row.subset.partition("/")[0] for rows in results.values() for row in rows)
    return {name: _SETS[name] for name in names if name in _SETS}


def part_in_words(subset: str) -> str:
    """Describe a subset such as `demo/size` in words: the part, then the set in brackets."""
    name, _, part = subset.partition("/")
    words = _SETS.get(name, in_words(name))
    return f"{in_words(part)} ({words})" if part else words


def in_words(name: str) -> str:
    """Replace underscores in a name by spaces."""
    return name.replace("_", " ")


def _choose(
    keys: Sequence[tuple[str, str, str, float | None]], by_attribute: bool, metrics: int | None
) -> list[_Choice]:
    """Return the choices of each set, in the order of the keys.

    Args:
        keys: Kind, subset, metric and factor of the rows.
        by_attribute: Whether the first attribute set has a choice for each attribute, not one for their mean.
        metrics: Maximum number of main metrics of a set. None: no limit.
    """
    sets: dict[tuple[str, str], dict[str, dict[str, list[float | None]]]] = {}
    for kind, subset, metric, factor in keys:
        set_name, _, part = subset.partition("/")
        sets.setdefault((kind, set_name), {}).setdefault(metric, {}).setdefault(part, []).append(factor)
    chosen = []
    first_attributes = next((key for key in sets if key[0] == "attribute_ranking"), None)
    for (kind, set_name), measured in sets.items():
        unknown = next(iter(measured))
        mains = _MAIN.get(kind) or (_Main({unknown: f"{in_words(kind)}: {in_words(unknown)}"}),)
        for main in mains[:metrics]:
            name = next((name for name in main.names if name in measured), None)
            if name is None or (main.part is not None and main.part not in measured[name]):
                continue
            factors = measured[name]
            parts = tuple(factors) if main.part is None else (main.part,)
            apart = by_attribute and (kind, set_name) == first_attributes
            for group in [(part,) for part in parts] if apart else [parts]:
                subsets = tuple("/".join(filter(None, (set_name, part))) for part in group)
                chosen.append(_Choice(main, kind, subsets, name, _middle(factors[group[0]])))
    return chosen


def _mean_of_sets(chosen: Sequence[_Choice]) -> list[_Choice]:
    """Join choices of the same kind, metric and factor, except those of attributes."""
    joined: dict[tuple[Any, ...], _Choice] = {}
    for choice in chosen:
        apart = choice.subsets if choice.kind == "attribute_ranking" else ()
        key = (choice.kind, choice.metric, choice.factor, apart)
        joined[key] = replace(choice, subsets=joined[key].subsets + choice.subsets) if key in joined else choice
    return list(joined.values())


def _middle(factors: Sequence[float | None]) -> float | None:
    """Return factor 1 if it was measured, else the middle one. The choice does not depend on results."""
    numbers = sorted(factor for factor in factors if factor is not None)
    if not numbers or 1 in numbers:
        return 1 if numbers else None
    return numbers[len(numbers) // 2]


def _has_named_set(choice: _Choice) -> bool:
    """Return whether the only set is always named. Others are named to distinguish two sets."""
    named = choice.kind == "zero_shot" or (choice.kind == "attribute_ranking" and not choice.attribute)
    return named and len(choice.sets) == 1


def _tag(choice: _Choice, whole: bool = False) -> str:
    """Return a short name: the attribute, set or kind of task, then the metric. With `whole`, join all four."""
    if whole:
        return "_".join(filter(None, [choice.kind, *choice.sets, choice.attribute, choice.metric]))
    return f"{choice.attribute or (choice.sets[0] if _has_named_set(choice) else choice.kind)}_{choice.metric}"
