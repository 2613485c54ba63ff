"""Comparative prompting: a world where texts help, direction, controls, bad input."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.comparative_prompting import _other_pairs, comparative_prompting, text_geometry
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


def test_true_texts_help_and_swapped_ones_harm(make_encoder: Callable[..., Any]) -> None:
    encoder, images, labels = confusing(make_encoder)
    right = measured(encoder, images, labels, TEXTS, bootstrap=Bootstrap(200))
    assert (right["confused/top1_plain"].n, right["all/top1_plain"].n) == (80, 120)
    for alpha in ("0.7", "0.9"):
        for over in ("plain", "shuffled", "random", "reversed"):
            assert right[f"confused/gain_over_{over}_{alpha}"].low > 0
    swapped = [Comparative(text.second, text.first, text.text) for text in TEXTS]
    wrong = measured(encoder, images, labels, swapped, bootstrap=Bootstrap(0))
    assert wrong["confused/gain_over_plain_0.7"].value < 0
    # swapping the classes is taking the reversed text
    assert wrong["all/top1_texts_0.7"].value == right["all/top1_reversed_0.7"].value


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


def test_bad_texts(make_encoder: Callable[..., Any]) -> None:
    encoder, images, labels = confusing(make_encoder)
    with pytest.raises(ValueError, match=r"\['bat'\]"):
        measured(encoder, images, labels, [Comparative("ant", "bat", "x")])
    with pytest.raises(ValueError, match="no image of the 2"):
        measured(encoder, images, torch.zeros_like(labels), [Comparative("dog", "elk", "x")])


def test_direction_of_geometry(make_encoder: Callable[..., Any]) -> None:
    words = {f"a {name}": SEPARATION[name] for name in CLASSES}
    words |= {text.text: SEPARATION[text.first] - 0.5 * SEPARATION[text.second] for text in TEXTS}
    swapped = [Comparative(text.second, text.first, text.text) for text in TEXTS]
    for texts, sign in ((TEXTS, 1), (swapped, -1)):
        rows = text_geometry(make_encoder(texts=words), CLASSES, ["a {}"], texts, bootstrap=Bootstrap(0))
        found = {row.name: row.value for row in rows}
        cosine = sign * 1.5 / (1.25**0.5 * 2**0.5)
        assert (found["cosine_text"], found["cosine_reverse"]) == pytest.approx((cosine, -cosine))
        assert found["forced_choice"] == (1 + sign) / 2
