"""Comparative prompting: the formula against a plain loop, a world where texts help, direction, controls, bad input."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.comparative_prompting import _other_pairs, comparative_prompting, compared, text_geometry
from pcclip.metrics.protocol import Comparative, Metric
from tests.helpers.metrics import by_name

CLASSES = ["ant", "bee", "cat", "cow", "dog", "elk"]
PAIRS = [("ant", "bee"), ("cat", "cow")]
TEXTS = [
    Comparative(one, other, f"{one}s, unlike {other}s")
    for pair in PAIRS
    for one, other in (pair, pair[::-1])
]  # fmt: skip
SEPARATION = {name: torch.eye(16)[place] for place, name in enumerate(CLASSES)}


def confusing(make_encoder: Callable[..., Any]) -> tuple[Any, Tensor, Tensor]:
    """Texts of both classes of a pair point to the first one; texts about differences point as they should."""
    words = {f"a {name}": SEPARATION[name] for name in CLASSES}
    for one, other in PAIRS:
        words[f"a {other}"] = SEPARATION[one] + 0.3 * SEPARATION[other]
    for text in TEXTS:
        words[text.text] = SEPARATION[text.first] - SEPARATION[text.second]
    labels = torch.arange(120) % len(CLASSES)
    noise = 0.2 * torch.randn(120, 16, generator=torch.Generator().manual_seed(0))
    images = normalize(torch.stack(list(SEPARATION.values()))[labels] + noise, dim=-1)
    return make_encoder(texts=words), images, labels


def measured(
    encoder: Any, images: Tensor, labels: Tensor, texts: list[Comparative], **settings: Any
) -> dict[str, Metric]:
    results = comparative_prompting(encoder, images, labels, CLASSES, ["a {}"], texts, alphas=[0.7, 0.9], **settings)
    return by_name(results)


def test_formula_equals_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    plain = normalize(torch.randn(5, 8, generator=generator), dim=-1)
    pairs = [(0, 1), (2, 1), (1, 0), (3, 2), (3, 2)]  # nothing is said of 3 and 4 as second
    texts = normalize(torch.randn(5, 8, generator=generator), dim=-1)
    first, second = torch.tensor(pairs).T
    moved = compared(plain, first, second, texts, 0.8)
    for b in range(5):
        terms = [plain[a] - text for (a, other), text in zip(pairs, texts, strict=True) if other == b]
        expected = plain[b]
        if terms:
            expected = 0.8 * plain[b] + 0.2 * torch.stack(terms).mean(0)
            expected = expected / expected.norm()
        torch.testing.assert_close(moved[b], expected)
    torch.testing.assert_close(compared(plain, first, second, texts, 1.0), plain)


def test_true_texts_help_and_swapped_ones_harm(make_encoder: Callable[..., Any]) -> None:
    encoder, images, labels = confusing(make_encoder)
    right = measured(encoder, images, labels, TEXTS, bootstrap=Bootstrap(200))
    confused = {name.removeprefix("confused/"): metric for name, metric in right.items()}
    assert confused["top1_plain"].n == 80
    assert right["all/top1_plain"].n == 120
    for alpha in ("0.7", "0.9"):
        assert confused[f"gain_over_plain_{alpha}"].low > 0
        for control in ("shuffled", "random", "reversed"):
            assert confused[f"gain_over_{control}_{alpha}"].low > 0
            gain = confused[f"top1_texts_{alpha}"].value - confused[f"top1_{control}_{alpha}"].value
            assert confused[f"gain_over_{control}_{alpha}"].value == pytest.approx(gain)
    swapped = [Comparative(text.second, text.first, text.text) for text in TEXTS]
    wrong = measured(encoder, images, labels, swapped, bootstrap=Bootstrap(0))
    assert wrong["confused/gain_over_plain_0.7"].value < 0
    # swapping the classes is taking the reversed text
    assert wrong["all/top1_texts_0.7"].value == right["all/top1_reversed_0.7"].value


def test_gain_is_of_the_same_images(make_encoder: Callable[..., Any]) -> None:
    encoder, images, labels = confusing(make_encoder)
    results = measured(encoder, images, labels, TEXTS, bootstrap=Bootstrap(500))
    gain, plain, texts = (
        results[f"all/{metric}"] for metric in ("gain_over_plain_0.9", "top1_plain", "top1_texts_0.9")
    )
    assert gain.value == pytest.approx(texts.value - plain.value)
    # paired: narrower than the two accuracies would be if they were of different images
    assert gain.high - gain.low < (texts.high - texts.low) + (plain.high - plain.low)
    again = measured(encoder, images, labels, TEXTS, bootstrap=Bootstrap(500))
    assert again == results


def test_controls_need_enough_texts(make_encoder: Callable[..., Any]) -> None:
    encoder, images, labels = confusing(make_encoder)
    metrics = set(measured(encoder, images, labels, TEXTS[:1], bootstrap=Bootstrap(0)))
    assert "all/top1_random_0.9" in metrics
    assert not {"all/top1_shuffled_0.9", "all/top1_reversed_0.9"} & metrics
    assert "all/top1_reversed_0.9" in measured(encoder, images, labels, TEXTS[:2], bootstrap=Bootstrap(0))


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_texts_come_from_other_pairs(seed: int) -> None:
    first, second = [0, 1, 2, 3, 4, 0, 2, 5], [1, 0, 3, 2, 5, 1, 3, 4]
    permutation = _other_pairs(first, second, torch.Generator().manual_seed(seed))
    assert permutation is not None
    assert sorted(permutation) == list(range(8))
    for row, other in enumerate(permutation):
        assert {first[row], second[row]} != {first[other], second[other]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"comparatives": [Comparative("ant", "bat", "x")]}, r"text is about \['bat'\]"),
        ({"comparatives": [Comparative("dog", "elk", "x")], "labels": torch.zeros(120, dtype=torch.long)}, "no image of the 2"),
        ({"alphas": [1.0]}, "alphas"),
        ({"alphas": []}, "alphas"),
        ({"classes": [*CLASSES[:5], "ant"]}, "named more than once"),
    ],
)  # fmt: skip
def test_bad_input(make_encoder: Callable[..., Any], changes: dict[str, Any], message: str) -> None:
    encoder, images, labels = confusing(make_encoder)
    settings: dict[str, Any] = {
        "labels": labels, "classes": CLASSES, "templates": ["a {}"], "comparatives": TEXTS,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        comparative_prompting(encoder, images, **{**settings, **changes})


def test_geometry_and_direction(make_encoder: Callable[..., Any]) -> None:
    words = {f"a {name}": SEPARATION[name] for name in CLASSES}
    words |= {text.text: SEPARATION[text.first] - 0.5 * SEPARATION[text.second] for text in TEXTS}
    encoder = make_encoder(texts=words)
    found = {row.name: row for row in text_geometry(encoder, CLASSES, ["a {}"], TEXTS, bootstrap=Bootstrap(50))}
    cosine = 1.5 / (1.25**0.5 * 2**0.5)
    assert found["cosine_text"].value == pytest.approx(cosine)
    assert found["cosine_reverse"].value == pytest.approx(-cosine)
    assert found["forced_choice"].value == 1
    assert found["text_with_reverse"].value == pytest.approx(-0.8)  # of (1, -1/2) and (-1/2, 1)
    assert found["cosine_text"].n == 4
    assert found["cosine_text"].low == pytest.approx(cosine)
    swapped = [Comparative(text.second, text.first, text.text) for text in TEXTS]
    wrong = {row.name: row.value for row in text_geometry(encoder, CLASSES, ["a {}"], swapped, bootstrap=Bootstrap(0))}
    assert wrong["cosine_text"] == pytest.approx(-cosine)
    assert wrong["forced_choice"] == 0
    alone = text_geometry(encoder, CLASSES, ["a {}"], TEXTS[:1], bootstrap=Bootstrap(0))
    assert [row.name for row in alone] == ["cosine_text"]
    silent = make_encoder(texts={**words, **{text.text: torch.ones(16) for text in TEXTS}})
    ties = {row.name: row.value for row in text_geometry(silent, CLASSES, ["a {}"], TEXTS, bootstrap=Bootstrap(0))}
    assert ties["forced_choice"] == 0.5
