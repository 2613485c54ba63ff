"""Retrieval: known answers, and a plain loop over sorted similarities."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.retrieval import retrieval

CAPTIONS = [[f"caption {image}-{number}" for number in range(1 + image % 3)] for image in range(40)]


def test_equals_a_plain_loop(make_encoder: Callable[..., Any], images: Tensor) -> None:
    encoder = make_encoder()
    generator = torch.Generator().manual_seed(0)
    for image, own in enumerate(CAPTIONS):
        for caption in own:
            encoder.texts[caption] = images[image] + 0.4 * torch.randn(16, generator=generator)
    results = {result.name: result for result in retrieval(encoder, images, CAPTIONS, bootstrap=Bootstrap(200))}
    texts = [(caption, image) for image, own in enumerate(CAPTIONS) for caption in own]
    similarity = encoder.encode_texts([caption for caption, _ in texts]) @ images.T
    for k in (1, 5, 10):
        found = [owner in row.argsort(descending=True)[:k] for row, (_, owner) in zip(similarity, texts, strict=True)]
        assert results[f"text_to_image_recall{k}"].value == pytest.approx(sum(found) / len(texts))
        hits = [
            any(texts[int(text)][1] == image for text in similarity[:, image].argsort(descending=True)[:k])
            for image in range(40)
        ]
        assert results[f"image_to_text_recall{k}"].value == pytest.approx(sum(hits) / 40)
    assert results["text_to_image_recall1"].n == len(texts)
    assert results["image_to_text_recall1"].n == 40
    assert results["text_to_image_recall1"].low < results["text_to_image_recall1"].value


def test_saying_the_same_of_everything_earns_nothing(make_encoder: Callable[..., Any], images: Tensor) -> None:
    same = {caption: torch.ones(16) for own in CAPTIONS for caption in own}
    results = retrieval(make_encoder(texts=same), images[:1].expand(40, -1), CAPTIONS, bootstrap=Bootstrap(5))
    assert {result.value for result in results} == {0.0}


def test_bad_input(make_encoder: Callable[..., Any], images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"images \[2\] have no caption"):
        retrieval(make_encoder(), images[:3], [["a"], ["b"], []])
