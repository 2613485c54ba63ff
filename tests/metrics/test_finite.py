"""No metric takes NaN or infinity for an answer: each refuses it."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from data_prep.steps.confused_pairs import closest_pairs, disagreement_pairs
from pcclip.metrics.arithmetic import Edits, analogies, arithmetic
from pcclip.metrics.attribute_ranking import attribute_ranking
from pcclip.metrics.clip_score import moved_images
from pcclip.metrics.comparative_prompting import comparative_prompting, text_geometry
from pcclip.metrics.compositionality import compositionality
from pcclip.metrics.difference_texts import difference_texts
from pcclip.metrics.linear_probe import linear_probe
from pcclip.metrics.protocol import Comparative, Wording, check_damaged
from pcclip.metrics.retrieval import retrieval
from pcclip.metrics.zero_shot import zero_shot

CLASSES = ["ant", "bee", "cat"]
LABELS = torch.arange(40) % 3
FIRST = torch.arange(10)
TEXTS = [f"the first is more {place} than the second" for place in range(10)]
REVERSES = [f"the first is not so {place} as the second" for place in range(10)]
COMPARATIVES = [Comparative("ant", "bee", "ants, unlike bees"), Comparative("bee", "ant", "bees, unlike ants")]
WORDINGS = {"size": [Wording("the first is larger", "the first is smaller")]}
PROMPTS = {"size": [Wording("big", "small")]}
EDITS = Edits(
    FIRST, ["ant"] * 10, ["bee"] * 10, torch.ones(10, dtype=torch.long), torch.arange(3)[:, None] == LABELS, torch.ones(10)
)  # fmt: skip
CAPTIONS = [[f"picture {place}"] for place in range(40)]

Metric = Callable[[Any, Tensor], Any]
OF_TEXTS: dict[str, Metric] = {
    "arithmetic": lambda encoder, images: arithmetic(encoder, images, EDITS),
    "attribute ranking": lambda encoder, images: attribute_ranking(
        encoder, images, {"size": torch.arange(40.0)}, WORDINGS
    ),
    "attribute prompts": lambda encoder, images: attribute_ranking(
        encoder, images, {"size": torch.arange(40.0)}, WORDINGS, prompts=PROMPTS
    ),
    "comparative prompting": lambda encoder, images: comparative_prompting(
        encoder, images, LABELS, CLASSES, ["a {}"], COMPARATIVES
    ),
    "compositionality": lambda encoder, images: compositionality(encoder, images, FIRST, TEXTS, REVERSES),
    "difference texts": lambda encoder, images: difference_texts(encoder, images, FIRST, FIRST + 3, TEXTS, REVERSES),
    "moved images": lambda encoder, images: moved_images(
        encoder, images.view(20, 1, 2, 16), 20 * WORDINGS["size"], range(20)
    ),
    "retrieval": lambda encoder, images: retrieval(encoder, images, CAPTIONS),
    "zero-shot": lambda encoder, images: zero_shot(encoder, images, LABELS, CLASSES, ["a {}"]),
}
OF_IMAGES = OF_TEXTS | {
    "linear probe": lambda encoder, images: linear_probe(images, LABELS, images.abs(), LABELS, CLASSES),
    "linear probe, test": lambda encoder, images: linear_probe(torch.eye(40, 16), LABELS, images, LABELS, CLASSES),
    "analogies": lambda encoder, images: analogies(images, images, [(0, 1, 2, 3)]),
    "closest pairs": lambda encoder, images: closest_pairs(images, 2),
    "disagreement pairs": lambda encoder, images: disagreement_pairs(images, torch.eye(3, 16), 2),
}


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
@pytest.mark.parametrize("metric", OF_IMAGES)
def test_image_embeddings(make_encoder: Callable[..., Any], images: Tensor, metric: str, wrong: float) -> None:
    OF_IMAGES[metric](make_encoder(), images)
    images[[3, 9], 2] = wrong
    with pytest.raises(ValueError, match=r"embeddings: [24] of [48]0"):
        OF_IMAGES[metric](make_encoder(), images)


@pytest.mark.parametrize("metric", [*OF_TEXTS, "text geometry"])
def test_text_embeddings(make_encoder: Callable[..., Any], images: Tensor, metric: str) -> None:
    encoder, whole = make_encoder(), make_encoder()

    def encode(texts: Sequence[str]) -> Tensor:
        embedded = whole.encode_texts(texts)
        embedded[-1] = torch.nan
        return embedded

    encoder.encode_texts = encode
    geometry: Metric = lambda encoder, _: text_geometry(encoder, CLASSES, ["a {}"], COMPARATIVES)  # noqa: E731
    with pytest.raises(ValueError, match=r"text embeddings: 1 of \d+"):
        OF_TEXTS.get(metric, geometry)(encoder, images)


@pytest.mark.parametrize("metric", ["attribute ranking", "difference texts"])
def test_the_head(make_encoder: Callable[..., Any], images: Tensor, metric: str) -> None:
    with pytest.raises(ValueError, match="are not finite"):
        OF_TEXTS[metric](make_encoder(head=torch.full((16, 16), torch.nan)), images)


@pytest.mark.parametrize(("bad", "count"), [(1, 1), (2, 2), (2, 39), (6, 100), (100, 100)])
def test_single_damaged_images_are_no_error_but_many_are(bad: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"{bad} of {count}"):
        check_damaged(bad, count)
    for few, of in ((0, 1), (1, 2), (2, 40), (5, 100)):
        check_damaged(few, of)
