"""Every metric against plain Python, on small random sets with many ties.

A reference is a function of the drawn items, a list with repetitions. All items once give the value of a metric, and the
bootstrap's resamples give its interval.

Most embeddings are among the 24 unit vectors of width 4 with coordinates 0, 1/2 and 1. Their products are exact, so ties are
ties. Where a metric normalises means, vectors are continuous instead, and nothing is tied.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations, product
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from pcclip.metrics.arithmetic import Edits, analogies, arithmetic
from pcclip.metrics.attribute_ranking import attribute_ranking
from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.clip_score import moved_images
from pcclip.metrics.comparative_prompting import comparative_prompting, text_geometry
from pcclip.metrics.compositionality import compositionality
from pcclip.metrics.difference_texts import difference_texts
from pcclip.metrics.protocol import Comparative, Metric, Wording
from pcclip.metrics.retrieval import retrieval
from pcclip.metrics.zero_shot import zero_shot
from pcclip.roles import has_roles, swap_roles
from tests.helpers.metrics import by_name

Vector = NDArray[np.float64]
Statistic = Callable[[Sequence[int]], float]

UNIT = [np.array(vector) for vector in product((-1, -0.5, 0, 0.5, 1), repeat=4) if np.dot(vector, vector) == 1]
VECTORS = st.sampled_from(UNIT)
RANDOM = st.randoms(use_true_random=True)  # seeded by Hypothesis
BOOTSTRAP = Bootstrap(resamples=5, seed=3)
few = settings(max_examples=10)


class DrawnTexts:
    """An encoder that draws the embedding of each new text. Its differences are not normalised."""

    def __init__(self, draw: Callable[[], Vector]) -> None:
        self.text = cache(lambda text: draw())

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor(np.stack([self.text(text) for text in texts])).float()

    def project(self, differences: Tensor) -> Tensor:
        return differences

    def difference(self, first: Tensor, second: Tensor) -> Tensor:
        return first - second


def vectors(count: int) -> st.SearchStrategy[Vector]:
    return st.lists(VECTORS, min_size=count, max_size=count).map(np.stack)


def tied(data: st.DataObject) -> DrawnTexts:
    return DrawnTexts(lambda: data.draw(VECTORS))


def unit(vector: Vector) -> Vector:
    return vector / np.linalg.norm(vector)


def continuous(random: Random) -> Vector:
    return unit(np.array([random.gauss(0, 1) for _ in range(4)]))


def tensor(values: Any) -> Tensor:
    return torch.tensor(np.array(values)).float()


def mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else math.nan


def defined(values: Iterable[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def beats(right: float, wrong: float) -> float:
    return 0.5 if right == wrong else float(right > wrong)


def check(metrics: Iterable[Metric], population: Iterable[int], expected: dict[str, Statistic]) -> None:
    """Compare values with the statistics of the population, and intervals with those of its resamples."""
    found, items = by_name(metrics), sorted(set(population))
    assert set(found) == set(expected)
    draws = BOOTSTRAP.draw(len(items)).weights.int()
    for name, statistic in expected.items():
        value = statistic(items)
        resampled = defined(statistic(np.repeat(items, row).tolist()) for row in draws)
        ends = np.quantile(resampled, (0.025, 0.975)) if resampled and defined([value]) else (math.nan, math.nan)
        metric = found[name]
        assert (metric.value, metric.low, metric.high) == pytest.approx((value, *ends), abs=1e-5, nan_ok=True), name


def verdicts(encoder: DrawnTexts, difference: Vector, text: str, reverse: str) -> dict[str, float]:
    """The verdict of each pair metric: the mean over both orders of a pair."""

    def score(sentence: str) -> float:
        return float(encoder.text(sentence) @ difference)

    found = {
        "sign_accuracy": [beats(score(text), 0), beats(-score(reverse), 0)],
        "forced_choice": [beats(score(text), score(reverse)), beats(-score(reverse), -score(text))],
    }
    if has_roles(text) and has_roles(reverse):
        swapped, swapped_reverse = score(swap_roles(text)), score(swap_roles(reverse))
        found["role_test"] = [beats(score(text), swapped), beats(-score(reverse), -swapped_reverse)]
        found["swapped_choice"] = [beats(swapped_reverse, swapped), beats(-swapped, -swapped_reverse)]
    return {name: mean(both) for name, both in found.items()}


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    ranks = [[sum(o < v for o in values) + sum(o == v for o in values) / 2 for v in values] for values in (x, y)]
    if len(set(x)) == 1 or len(set(y)) == 1:
        return math.nan
    return float(np.corrcoef(ranks)[0, 1])


def kendall(x: Sequence[float], y: Sequence[float]) -> float:
    """Kendall's tau-b."""
    signs = np.array([np.sign((x[i] - x[j], y[i] - y[j])) for i, j in combinations(range(len(x)), 2)])
    untied = np.sqrt((signs**2).sum(0).prod())
    return float(signs.prod(1).sum() / untied) if untied else math.nan


WORDINGS = [
    Wording("the first is larger than the second", "the first is smaller than the second"),
    Wording("compared with the second, the first is big", "compared with the second, the first is tiny"),
]
PROMPTS = [Wording("a large thing", "a small thing"), Wording("something big", "something little")]


@given(st.data(), vectors(8), st.lists(st.integers(0, 3), min_size=8, max_size=8), st.integers(0, 1))
@few
def test_attribute_ranking(data: st.DataObject, images: Vector, values: list[int], gap: int) -> None:
    assume(max(values) - min(values) > gap)
    encoder, everyone = tied(data), range(8)
    metrics = attribute_ranking(
        encoder,
        tensor([*images, images[0]]),
        {"size": tensor([*values, math.nan])},
        {"size": WORDINGS},
        prompts={"size": PROMPTS},
        min_gap=gap,
        images_per_draw=4,
        draws=3,
        bootstrap=BOOTSTRAP,
    )

    @cache
    def verdict(i: int, j: int, wording: Wording) -> dict[str, float]:
        return verdicts(encoder, images[i] - images[j], wording.text, wording.reverse)

    def over_pairs(name: str, wordings: Sequence[Wording], among: Sequence[int] = everyone) -> Statistic:
        return lambda drawn: mean(
            mean(verdict(i, j, wording)[name] for wording in wordings)
            for i in drawn
            for j in drawn
            if i in among and j in among and values[i] - values[j] > gap
        )

    def over_ranks(correlation: Callable[..., float], wordings: Sequence[Wording]) -> Statistic:
        axes = [encoder.text(wording.text) - encoder.text(wording.reverse) for wording in wordings]
        scores = [(images - images.mean(0)) @ axis for axis in axes]  # the mean of eight is exact
        return lambda drawn: mean(correlation(each[drawn], [values[i] for i in drawn]) for each in scores)

    def extreme(choose: Callable[..., Statistic], each: list[Statistic]) -> Statistic:
        undefined = [statistic for statistic in each if not defined([statistic(everyone)])]
        return undefined[0] if undefined else choose(each, key=lambda statistic: statistic(everyone))

    choices = [over_pairs("forced_choice", [wording]) for wording in WORDINGS]
    correlations = [over_ranks(spearman, [wording]) for wording in WORDINGS]
    of_texts, of_prompts = over_ranks(spearman, WORDINGS), over_ranks(spearman, PROMPTS)
    generator = torch.Generator().manual_seed(BOOTSTRAP.seed)
    samples = [torch.randperm(8, generator=generator)[:4].tolist() for _ in range(3)]
    papers = [over_pairs("sign_accuracy", WORDINGS, sample) for sample in samples]
    eligible = [each for each in papers if defined([each(everyone)])] or papers[:1]
    expected = {
        "sign_accuracy": over_pairs("sign_accuracy", WORDINGS),
        "forced_choice": over_pairs("forced_choice", WORDINGS),
        "role_test": over_pairs("role_test", WORDINGS),
        "swapped_choice": over_pairs("swapped_choice", WORDINGS),
        "forced_choice_lowest": extreme(min, choices),
        "forced_choice_highest": extreme(max, choices),
        "sign_accuracy_paper": lambda drawn: mean(defined(each(drawn) for each in papers)),
        "sign_accuracy_paper_lowest": extreme(min, eligible),
        "sign_accuracy_paper_highest": extreme(max, eligible),
        "spearman": of_texts,
        "spearman_lowest": extreme(min, correlations),
        "spearman_highest": extreme(max, correlations),
        "kendall": over_ranks(kendall, WORDINGS),
        "prompt_forced_choice": over_pairs("forced_choice", PROMPTS),
        "prompt_spearman": of_prompts,
        "spearman_over_prompts": lambda drawn: of_texts(drawn) - of_prompts(drawn),
    }
    check([replace(metric, part="") for metric in metrics], everyone, expected)


PAIRS = st.lists(st.permutations(range(6)).map(lambda order: order[:2]), min_size=1, max_size=5)


@given(st.data(), vectors(6), PAIRS, st.sets(st.integers(0, 4)), st.sets(st.integers(0, 5)))
@few
def test_difference_texts(
    data: st.DataObject, images: Vector, pairs: list[list[int]], roles: set[int], captioned: set[int]
) -> None:
    encoder = tied(data)
    texts = [f"the first has more of {row}" if row in roles else "more of it" for row in range(len(pairs))]
    reverses = [f"the second has more of {row}" for row in range(len(pairs))]
    captions = [[f"caption {image}"] if image in captioned else [] for image in range(6)]
    judged = []
    for (i, j), text, reverse in zip(pairs, texts, reverses, strict=True):
        row = verdicts(encoder, images[i] - images[j], text, reverse)
        if {i, j} <= captioned:
            said = encoder.text(f"caption {i}") - encoder.text(f"caption {j}")
            row["caption_forced_choice"] = beats(said @ (images[i] - images[j]), 0)
            row["forced_choice_over_captions"] = row["forced_choice"] - row["caption_forced_choice"]
        judged.append(row)

    def over_pairs(name: str) -> Statistic:
        rows = [(pair, row[name]) for pair, row in zip(pairs, judged, strict=True) if name in row]
        return lambda drawn: mean(value for i in drawn for j in drawn for pair, value in rows if pair == [i, j])

    first, second = torch.tensor(pairs).T
    metrics = difference_texts(
        encoder, tensor(images), first, second, texts, reverses, captions=captions, bootstrap=BOOTSTRAP
    )
    check(metrics, np.ravel(pairs).tolist(), {name: over_pairs(name) for row in judged for name in row})


@given(st.data(), st.sampled_from([3, 6, 11]), st.lists(st.integers(1, 2), min_size=11, max_size=11))
@few
def test_retrieval(data: st.DataObject, count: int, captions_of: list[int]) -> None:
    encoder, images = tied(data), data.draw(vectors(count))
    captions = [[f"{image}, {number}" for number in range(captions_of[image])] for image in range(count)]
    owner = {text: image for image, own in enumerate(captions) for text in own}
    similarity = {text: images @ encoder.text(text) for text in owner}

    def text_rank(text: str) -> int:
        """Ties with the right image count before it."""
        return sum(score >= similarity[text][owner[text]] for score in similarity[text])

    def image_rank(image: int) -> int:
        best = max(similarity[text][image] for text in captions[image])
        return 1 + sum(similarity[text][image] >= best for text in owner if owner[text] != image)

    def to_image(k: int) -> Statistic:
        return lambda drawn: mean(text_rank(text) <= k for image in drawn for text in captions[image])

    def to_text(k: int) -> Statistic:
        return lambda drawn: mean(image_rank(image) <= k for image in drawn)

    expected = {f"text_to_image_recall{k}": to_image(k) for k in (1, 5, 10) if count > k}
    expected |= {f"image_to_text_recall{k}": to_text(k) for k in (1, 5, 10) if len(owner) > k}
    check(retrieval(encoder, tensor(images), captions, bootstrap=BOOTSTRAP), range(count), expected)


CLASSES = ["ant", "bee", "cat", "dog", "elk", "fly", "gnu"]
TEMPLATES = ["a photo of a {}.", "many {}s"]


def class_vectors(encoder: DrawnTexts, classes: Sequence[str]) -> Vector:
    return np.stack(
        [unit(sum(encoder.text(template.replace("{}", name)) for template in TEMPLATES)) for name in classes]
    )


@given(RANDOM, st.sampled_from([4, 7]))
@few
def test_zero_shot(random: Random, count: int) -> None:
    encoder, classes = DrawnTexts(lambda: continuous(random)), CLASSES[:count]
    images = np.stack([continuous(random) for _ in range(12)])
    labels = [random.randrange(count - 1) for _ in images]  # no image of the last class
    logits = images @ class_vectors(encoder, classes).T
    ranks = [sum(row > row[label]) for row, label in zip(logits, labels, strict=True)]

    def of_class(label: int) -> Statistic:
        return lambda drawn: mean(ranks[i] == 0 for i in drawn if labels[i] == label)

    expected: dict[str, Statistic] = {
        "top1": lambda drawn: mean(ranks[i] == 0 for i in drawn),
        "mean_per_class": lambda drawn: mean(of_class(label)(drawn) for label in {labels[i] for i in drawn}),
        "worst_class": min(map(of_class, sorted(set(labels))), key=lambda each: each(range(12))),
    }
    if count > 5:
        expected["top5"] = lambda drawn: mean(ranks[i] < 5 for i in drawn)
    metrics = zero_shot(encoder, tensor(images), torch.tensor(labels), classes, TEMPLATES, bootstrap=BOOTSTRAP)
    check(metrics, range(12), expected)


COMPARATIVES = [
    Comparative(one, other, f"{one}s, unlike {other}s")
    for pair in (("ant", "bee"), ("bee", "cat"), ("dog", "elk"))
    for one, other in (pair, pair[::-1])
]  # fmt: skip


@given(RANDOM)
@few
def test_comparative_prompting(random: Random) -> None:
    encoder = DrawnTexts(lambda: continuous(random))
    images = np.stack([continuous(random) for _ in range(14)])
    labels = [place % 7 for place in range(14)]
    plain = dict(zip(CLASSES, class_vectors(encoder, CLASSES), strict=True))

    def moved(name: str, alpha: float, text: str) -> Vector:
        """A class embedding by the formula, with texts of a pair in one or the other direction."""
        others = [row.first for row in COMPARATIVES if row.second == name]
        terms = [plain[a] - encoder.text(text.format(a=a, b=name)) for a in others]
        return unit(alpha * plain[name] + (1 - alpha) * np.mean(terms, axis=0)) if others else plain[name]

    def top1(alpha: float, text: str) -> Statistic:
        classes = np.stack([moved(name, alpha, text) for name in CLASSES])
        right = (images @ classes.T).argmax(1) == labels
        return lambda drawn: mean(right[drawn])

    def gain(one: Statistic, other: Statistic) -> Statistic:
        return lambda drawn: one(drawn) - other(drawn)

    expected = {"top1_plain": top1(1, "")}
    for alpha in (0.5, 0.9):
        right, turned = top1(alpha, "{a}s, unlike {b}s"), top1(alpha, "{b}s, unlike {a}s")
        expected |= {f"top1_texts_{alpha}": right, f"top1_reversed_{alpha}": turned}
        expected[f"gain_over_plain_{alpha}"] = gain(right, expected["top1_plain"])
        expected[f"gain_over_reversed_{alpha}"] = gain(right, turned)
    metrics = comparative_prompting(
        encoder,
        tensor(images),
        torch.tensor(labels),
        CLASSES,
        TEMPLATES,
        COMPARATIVES,
        alphas=[0.5, 0.9],
        bootstrap=BOOTSTRAP,
    )
    named = {CLASSES.index(row.first) for row in COMPARATIVES}
    for part, chosen in (("all", range(14)), ("confused", [i for i in range(14) if labels[i] in named])):
        random_controls = ("shuffled", "random")
        own = [m for m in metrics if m.part == part and not m.name.endswith(random_controls)]
        check([replace(metric, part="") for metric in own], chosen, expected)


@given(RANDOM, st.integers(1, 6))
@few
def test_geometry_of_comparative_texts(random: Random, count: int) -> None:
    encoder = DrawnTexts(lambda: continuous(random))
    plain = dict(zip(CLASSES, class_vectors(encoder, CLASSES), strict=True))
    texts = {(row.first, row.second): encoder.text(row.text) for row in COMPARATIVES[:count]}
    judged: dict[str, dict[tuple[int, int], float]] = {}
    for (first, second), text in texts.items():
        pair, difference = (CLASSES.index(first), CLASSES.index(second)), unit(plain[first] - plain[second])
        judged.setdefault("cosine_text", {})[pair] = text @ difference
        if (second, first) in texts:
            reverse = texts[second, first]
            judged.setdefault("cosine_reverse", {})[pair] = reverse @ difference
            judged.setdefault("forced_choice", {})[pair] = beats(text @ difference, reverse @ difference)
            judged.setdefault("text_with_reverse", {})[pair] = text @ reverse
    metrics = text_geometry(encoder, CLASSES, TEMPLATES, COMPARATIVES[:count], bootstrap=BOOTSTRAP)
    assert {metric.name for metric in metrics} == set(judged)
    for metric in metrics:
        rows = judged[metric.name]

        def over_pairs(drawn: Sequence[int], rows: dict[tuple[int, int], float] = rows) -> float:
            return mean(rows[i, j] for i in drawn for j in drawn if (i, j) in rows)

        check([metric], [item for pair in rows for item in pair], {metric.name: over_pairs})


EDITS = st.tuples(st.integers(0, 7), st.integers(0, 2), st.sampled_from([0.5, 1.0, 2.0]))


@given(
    st.data(),
    vectors(8),
    st.lists(EDITS, min_size=1, max_size=5),
    st.lists(st.permutations(range(8)), min_size=3, max_size=3),
)
@few
def test_arithmetic(
    data: st.DataObject, images: Vector, edits: list[tuple[int, int, float]], orders: list[list[int]]
) -> None:
    encoder, template = tied(data), "now {target}, not {source}"
    own, answers, weights = zip(*edits, strict=True)
    rows = range(len(edits))
    sources, targets = [f"source {row}" for row in rows], [f"target {row % 2}" for row in rows]
    labels = np.arange(8) % 4  # sets of two and of four images have exact means
    right = [order[:size] for order, size in zip(orders, (2, 4, 2), strict=True)]

    def over_edits(query: Callable[[int], Vector]) -> Statistic:
        found = []
        for row in rows:
            scores = {i: query(row) @ images[i] for i in range(8) if i != own[row]}
            best = max(scores[i] for i in scores if i in right[answers[row]])
            found.append(all(best > scores[i] for i in scores if i not in right[answers[row]]))

        def statistic(drawn: Sequence[int]) -> float:
            chosen = [row for image in drawn for row in rows if own[row] == image]
            return sum(weights[row] * found[row] for row in chosen) / sum(weights[row] for row in chosen)

        return statistic

    def by_difference_text(row: int) -> Vector:
        return encoder.text(template.replace("{target}", targets[row]).replace("{source}", sources[row]))

    def by_class_means(row: int) -> Vector:
        return images[right[answers[row]]].mean(0) - images[labels == labels[own[row]]].mean(0)

    shifts: dict[str, Callable[[int], Vector]] = {
        "recall1": lambda row: encoder.text(targets[row]) - encoder.text(sources[row]),
        "difference_recall1": by_difference_text,
        "class_means_recall1": by_class_means,
    }
    expected = {"target_recall1": over_edits(lambda row: encoder.text(targets[row]))}
    for factor in (0, 0.5, 2):
        for name, shift in shifts.items():
            expected[f"{name}_{factor}"] = over_edits(
                lambda row, shift=shift, factor=factor: images[own[row]] + factor * shift(row)  # type: ignore[misc]
            )
    sets = torch.tensor([[image in each for image in range(8)] for each in right])
    as_tensors = Edits(
        torch.tensor(own), sources, targets, torch.tensor(answers), sets, tensor(weights), torch.tensor(labels)
    )
    metrics = arithmetic(
        encoder, tensor(images), as_tensors, lambdas=[0, 0.5, 2], difference_template=template, bootstrap=BOOTSTRAP
    )
    check(metrics, own, expected)


@given(st.data(), vectors(6), st.lists(st.integers(0, 5), min_size=1, max_size=6))
@few
def test_compositionality(data: st.DataObject, images: Vector, image_of: list[int]) -> None:
    encoder, rows = tied(data), range(len(image_of))
    captions, negatives = [f"right {row}" for row in rows], [f"wrong {row}" for row in rows]
    scores = [[encoder.text(text) @ images[image_of[row]] for row, text in enumerate(t)] for t in (captions, negatives)]
    found = [beats(right, wrong) for right, wrong in zip(*scores, strict=True)]

    def accuracy(drawn: Sequence[int]) -> float:
        return mean(found[row] for image in drawn for row in rows if image_of[row] == image)

    metric = compositionality(encoder, tensor(images), torch.tensor(image_of), captions, negatives, bootstrap=BOOTSTRAP)
    check([metric], image_of, {"accuracy": accuracy})


@given(st.data(), vectors(3 * 2 * 2))
@few
def test_moved_images(data: st.DataObject, flat: Vector) -> None:
    encoder, images = tied(data), flat.reshape(3, 2, 2, 4)
    targets = [Wording(f"more {case}", f"less {case}") for case in range(3)]
    prompts = [0, 1, 1]

    def over_images(judged: Callable[[float, float], float]) -> Statistic:
        return lambda drawn: mean(
            judged(float(encoder.text(text) @ pair[end]), float(encoder.text(text) @ pair[1 - end]))
            for prompt in drawn
            for case in range(3)
            if prompts[case] == prompt
            for pair in images[case]
            for end, text in enumerate((targets[case].text, targets[case].reverse))
        )

    expected = {"clip_score": over_images(lambda own, _: max(0, 2.5 * own)), "forced_choice": over_images(beats)}
    check(moved_images(encoder, tensor(images), targets, prompts, bootstrap=BOOTSTRAP), range(2), expected)
    turned = moved_images(encoder, tensor(images[:, :, ::-1].copy()), targets, prompts)[1]
    assert turned.value == pytest.approx(1 - expected["forced_choice"](range(2)))


QUADRUPLES = st.lists(st.permutations(range(6)).map(lambda order: tuple(order[:4])), min_size=1, max_size=5)


@given(vectors(6), vectors(6), QUADRUPLES)
@few
def test_analogies(texts: Vector, images: Vector, quadruples: list[tuple[int, int, int, int]]) -> None:
    def solved(moving: Vector, classes: Vector) -> Statistic:
        found = []
        for a, b, c, d in quadruples:
            scores = classes @ (moving[a] - moving[b] + classes[c])
            found.append(all(scores[d] > scores[i] for i in range(6) if i not in (a, b, c, d)))
        return lambda drawn: mean(
            right
            for quadruple, right in zip(quadruples, found, strict=True)
            for _ in range(math.prod(drawn.count(item) for item in quadruple))
        )

    metrics = analogies(tensor(texts), tensor(images), quadruples, bootstrap=BOOTSTRAP)
    expected = {"text": solved(texts, texts), "image": solved(images, images), "image_by_text": solved(texts, images)}
    check(metrics, range(6), expected)
