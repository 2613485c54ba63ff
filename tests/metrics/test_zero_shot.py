"""Class embeddings against open_clip's own classifier, and bad input."""

from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch

from pcclip.metrics.zero_shot import class_embeddings
from pcclip.model import DifferenceCLIP

CLASSES = ["ant", "bee", "cat", "dog"]
TEMPLATES = ["a photo of a {}.", "many {}s"]


@pytest.mark.parametrize("templates", [TEMPLATES[:1], TEMPLATES])
def test_classifier_equals_open_clips(tiny_clip: DifferenceCLIP, templates: list[str]) -> None:
    with torch.no_grad():
        tokenizer = open_clip.SimpleTokenizer()
        theirs = open_clip.build_zero_shot_classifier(tiny_clip.towers, tokenizer, CLASSES, templates)
    torch.testing.assert_close(class_embeddings(tiny_clip, CLASSES, templates), theirs.T)


@pytest.mark.parametrize(
    ("classes", "template", "named"),
    [
        (["ant", "bee", "ant"], "a {}", r"\['ant'\]"),
        (CLASSES, "a photo", '"a photo"'),
        (CLASSES, "{} {description}", "ant"),
    ],
)
def test_bad_input(make_encoder: Callable[..., Any], classes: list[str], template: str, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        class_embeddings(make_encoder(), classes, [template])
