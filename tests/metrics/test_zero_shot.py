"""Zero-shot classification against open_clip's own classifier and scikit-learn."""

from collections.abc import Callable
from typing import Any

import open_clip
import pytest
import torch
from sklearn.metrics import recall_score, top_k_accuracy_score
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.zero_shot import class_embeddings, zero_shot

CLASSES = ["ant", "bee", "cat", "dog", "elk", "fly", "gnu"]
TEMPLATES = ["a photo of a {}.", "many {}s"]


def test_classifier_equals_open_clips() -> None:
    torch.manual_seed(0)
    tower = {"width": 32, "layers": 1, "heads": 2}
    model = open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
        text_cfg={"context_length": 77, "vocab_size": 49408, **tower},
    ).eval()
    tokenizer = open_clip.SimpleTokenizer()

    class Plain:
        def encode_texts(self, texts: list[str]) -> Tensor:
            return model.encode_text(tokenizer(texts), normalize=True)

    theirs = open_clip.build_zero_shot_classifier(model, tokenizer, CLASSES, TEMPLATES)
    torch.testing.assert_close(class_embeddings(Plain(), CLASSES, TEMPLATES), theirs.T)  # type: ignore[arg-type]


def test_equals_scikit_learn(make_encoder: Callable[..., Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    encoder = make_encoder()
    labels = torch.randint(6, (90,), generator=generator)  # no image of the last class
    texts = class_embeddings(encoder, CLASSES, TEMPLATES)
    images = normalize(texts[labels] + 0.5 * torch.randn(90, 16, generator=generator), dim=-1)
    results = {r.name: r for r in zero_shot(encoder, images, labels, CLASSES, TEMPLATES, bootstrap=Bootstrap(200))}
    logits = images @ texts.T
    recalls = recall_score(labels, logits.argmax(1), average=None, labels=range(6))
    assert results["top1"].value == pytest.approx((logits.argmax(1) == labels).double().mean())
    assert results["top5"].value == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=range(7)))
    assert results["mean_per_class"].value == pytest.approx(recalls.mean())
    assert results["worst_class"].value == pytest.approx(recalls.min())
    assert results["worst_class"].n == int((labels == int(recalls.argmin())).sum())
    assert results["top1"].n == 90
    for result in results.values():
        assert result.low < result.value < result.high


def test_few_classes_have_no_top5(make_encoder: Callable[..., Any], images: Tensor) -> None:
    results = zero_shot(make_encoder(), images, torch.arange(40) % 3, CLASSES[:3], TEMPLATES, bootstrap=Bootstrap(5))
    assert [result.name for result in results] == ["top1", "mean_per_class", "worst_class"]


def test_a_template_without_a_place_is_refused(make_encoder: Callable[..., Any], images: Tensor) -> None:
    with pytest.raises(ValueError, match='"a photo"'):
        zero_shot(make_encoder(), images, torch.zeros(40, dtype=torch.long), CLASSES, ["a photo"])
