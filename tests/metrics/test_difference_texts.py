"""Difference texts: known answers, direction, and bad input."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.difference_texts import difference_texts
from pcclip.metrics.protocol import Metric
from pcclip.roles import swap_roles

FIRST, SECOND = torch.tensor([0, 4, 9, 0, 7]), torch.tensor([1, 2, 3, 5, 6])
TEXTS = [f"the first shows {name}, the second does not" for name in "abcde"]
REVERSES = [f"the first shows no {name}, the second does" for name in "abcde"]
METRICS = ("sign_accuracy", "forced_choice", "role_test", "swapped_choice")


def values(results: list[Metric]) -> dict[str, float]:
    return {result.name: result.value for result in results}


def perfect(make_encoder: Callable[..., Any], images: Tensor) -> Any:
    encoder = make_encoder()
    for first, second, text, reverse in zip(FIRST, SECOND, TEXTS, REVERSES, strict=True):
        difference = images[first] - images[second]
        encoder.texts |= {text: difference, reverse: -difference}
        encoder.texts |= {swap_roles(text): -difference, swap_roles(reverse): difference}
    return encoder


def test_perfect_model_and_direction(make_encoder: Callable[..., Any], images: Tensor) -> None:
    encoder = perfect(make_encoder, images)
    right = difference_texts(encoder, images, FIRST, SECOND, TEXTS, REVERSES, bootstrap=Bootstrap(20))
    assert values(right) == dict.fromkeys(METRICS, 1.0)
    assert {result.n for result in right} == {5}
    swapped = difference_texts(encoder, images, SECOND, FIRST, TEXTS, REVERSES, bootstrap=Bootstrap(20))
    assert values(swapped) == dict.fromkeys(METRICS, 0.0)
    exchanged = difference_texts(encoder, images, FIRST, SECOND, REVERSES, TEXTS, bootstrap=Bootstrap(20))
    assert values(exchanged) == dict.fromkeys(METRICS, 0.0)


def test_random_texts_mirror(make_encoder: Callable[..., Any], images: Tensor) -> None:
    straight = values(difference_texts(make_encoder(), images, FIRST, SECOND, TEXTS, REVERSES, bootstrap=Bootstrap(0)))
    mirrored = values(difference_texts(make_encoder(), images, SECOND, FIRST, TEXTS, REVERSES, bootstrap=Bootstrap(0)))
    assert mirrored == pytest.approx({metric: 1 - value for metric, value in straight.items()})


def test_texts_without_roles_are_left_out_of_role_metrics(make_encoder: Callable[..., Any], images: Tensor) -> None:
    texts = [*TEXTS[:4], "more of it"]
    results = difference_texts(make_encoder(), images, FIRST, SECOND, texts, REVERSES, bootstrap=Bootstrap(20))
    assert {result.name: result.n for result in results} == dict(zip(METRICS, (5, 5, 4, 4), strict=True))


def test_captions_subtracted(make_encoder: Callable[..., Any], images: Tensor) -> None:
    encoder = perfect(make_encoder, images)
    captions = [[f"picture {row}", f"image {row}"] for row in range(len(images))]
    captions[7] = []  # the last pair has no caption of its first image
    encoder.texts |= {text: images[row] for row, own in enumerate(captions) for text in own}
    results = difference_texts(
        encoder, images, FIRST, SECOND, TEXTS, REVERSES, captions=captions, bootstrap=Bootstrap(20)
    )
    found = {result.name: (result.value, result.n) for result in results}
    assert found["caption_forced_choice"] == (1.0, 4)
    assert found["forced_choice_over_captions"] == (0.0, 4)
    for row in (0, 1):  # of the first pair they now say the opposite, and of the fourth nothing at all
        encoder.texts |= dict.fromkeys(captions[row], images[1 - row])
    encoder.texts |= dict.fromkeys(captions[5], encoder.texts["picture 0"])
    found = values(
        difference_texts(encoder, images, FIRST, SECOND, TEXTS, REVERSES, captions=captions, bootstrap=Bootstrap(20))
    )
    assert found["caption_forced_choice"] == (0 + 1 + 1 + 0.5) / 4
    assert found["forced_choice_over_captions"] == 1 - found["caption_forced_choice"]
