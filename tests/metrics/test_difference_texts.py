"""Difference texts: known answers, direction and captions."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.difference_texts import difference_texts
from pcclip.roles import swap_roles

FIRST, SECOND = torch.tensor([0, 4, 9, 0, 7]), torch.tensor([1, 2, 3, 5, 6])
TEXTS = [f"the first shows {name}, the second does not" for name in "abcde"]
REVERSES = [f"the first shows no {name}, the second does" for name in "abcde"]
METRICS = ("sign_accuracy", "forced_choice", "role_test", "swapped_choice")


def perfect(make_encoder: Callable[..., Any], images: Tensor) -> Any:
    encoder = make_encoder()
    for first, second, text, reverse in zip(FIRST, SECOND, TEXTS, REVERSES, strict=True):
        difference = images[first] - images[second]
        encoder.texts |= {text: difference, reverse: -difference}
        encoder.texts |= {swap_roles(text): -difference, swap_roles(reverse): difference}
    return encoder


def test_perfect_model_and_direction(make_encoder: Callable[..., Any], images: Tensor) -> None:
    encoder = perfect(make_encoder, images)
    for first, second, texts, reverses, value in (
        (FIRST, SECOND, TEXTS, REVERSES, 1.0),
        (SECOND, FIRST, TEXTS, REVERSES, 0.0),
        (FIRST, SECOND, REVERSES, TEXTS, 0.0),
    ):
        results = difference_texts(encoder, images, first, second, texts, reverses, bootstrap=Bootstrap(20))
        assert {result.name: result.value for result in results} == dict.fromkeys(METRICS, value)
        assert {result.n for result in results} == {5}


def test_several_captions_of_an_image(make_encoder: Callable[..., Any], images: Tensor) -> None:
    encoder = perfect(make_encoder, images)
    captions = [[f"picture {row}", f"image {row}"] for row in range(len(images))]
    captions[7] = []  # the last pair has no caption of its first image
    encoder.texts |= {text: images[row] for row, own in enumerate(captions) for text in own}

    def measured() -> dict[str, tuple[float, int]]:
        results = difference_texts(
            encoder, images, FIRST, SECOND, TEXTS, REVERSES, captions=captions, bootstrap=Bootstrap(20)
        )
        return {result.name: (result.value, result.n) for result in results}

    assert measured()["caption_forced_choice"] == (1.0, 4)
    assert measured()["forced_choice_over_captions"] == (0.0, 4)
    for row in (0, 1):  # those of the first pair are exchanged, and those of the fourth are equal
        encoder.texts |= dict.fromkeys(captions[row], images[1 - row])
    encoder.texts |= dict.fromkeys(captions[5], encoder.texts["picture 0"])
    expected = (0 + 1 + 1 + 0.5) / 4
    assert measured()["caption_forced_choice"] == (expected, 4)
    assert measured()["forced_choice_over_captions"] == (1 - expected, 4)
