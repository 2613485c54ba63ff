"""Confused pairs: known answers, and no way for labels to matter."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import normalize

from pcclip.metrics.confused_pairs import closest_pairs, disagreement_pairs

# classes 0 and 3 are close, 1 and 2 a little less, 4 stands alone
CLASSES = normalize(torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0.6, 0], [1, 0, 0.4, 0], [0, 0, 0, 1]]), dim=-1)


def test_closest_pairs() -> None:
    assert closest_pairs(CLASSES, 2) == [(0, 3), (1, 2)]
    assert len(closest_pairs(CLASSES, 99)) == 10


def test_disagreement_is_about_the_undecided_images() -> None:
    between = [(1, 2)] * 3 + [(0, 3)] * 2  # more images lie between 1 and 2
    undecided = torch.stack([CLASSES[one] + CLASSES[other] for one, other in between])
    sure = torch.stack([CLASSES[4] + 0.1 * CLASSES[0]] * 5)  # their second class means nothing
    images = normalize(torch.cat([undecided, sure]), dim=-1)
    assert disagreement_pairs(images, CLASSES, 2) == [(1, 2), (0, 3)]
    assert disagreement_pairs(images, CLASSES, 1) == [(1, 2)]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="0 pairs of 5 classes"):
        closest_pairs(CLASSES, 0)
    with pytest.raises(ValueError, match="3 pairs of 1 classes"):
        disagreement_pairs(CLASSES, CLASSES[:1], 3)
    with pytest.raises(ValueError, match="no image"):
        disagreement_pairs(CLASSES[:0], CLASSES, 3)
