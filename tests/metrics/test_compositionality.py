"""Compositionality: a plain loop, direction, ties, bad input."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.compositionality import compositionality

IMAGE_OF = torch.tensor([0, 0, 3, 5, 5, 5, 9, 12, 13, 14])
CAPTIONS = [f"a dog bites man {number}" for number in range(10)]
NEGATIVES = [f"a man bites dog {number}" for number in range(10)]


def test_equals_a_plain_loop_and_direction(make_encoder: Callable[..., Any], images: Tensor) -> None:
    encoder = make_encoder()
    result = compositionality(encoder, images, IMAGE_OF, CAPTIONS, NEGATIVES, bootstrap=Bootstrap(300))
    right = [
        float(encoder.encode_texts([caption])[0] @ images[image]) > float(encoder.encode_texts([negative])[0] @ images[image])
        for image, caption, negative in zip(IMAGE_OF, CAPTIONS, NEGATIVES, strict=True)
    ]  # fmt: skip
    assert (result.name, result.n) == ("accuracy", 10)
    assert 0 < result.value < 1
    assert result.value == pytest.approx(sum(right) / 10)
    assert result.low < result.value < result.high
    swapped = compositionality(encoder, images, IMAGE_OF, NEGATIVES, CAPTIONS, bootstrap=Bootstrap(0))
    assert swapped.value == pytest.approx(1 - result.value)


def test_ties_are_half(make_encoder: Callable[..., Any], images: Tensor) -> None:
    same = dict.fromkeys([*CAPTIONS, *NEGATIVES], torch.ones(16))
    result = compositionality(make_encoder(texts=same), images, IMAGE_OF, CAPTIONS, NEGATIVES, bootstrap=Bootstrap(0))
    assert result.value == 0.5
