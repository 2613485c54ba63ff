"""The same numbers as open_clip's own classifier and scipy's bootstrap."""

from collections.abc import Callable
from typing import Any

import numpy as np
import open_clip
import pytest
import scipy.stats
import torch
from torch import Tensor

from pcclip.metrics.attribute_ranking import attribute_ranking, attribute_scores
from pcclip.metrics.bootstrap import Bootstrap
from pcclip.metrics.protocol import Wording
from pcclip.metrics.zero_shot import zero_shot
from pcclip.model import DifferenceCLIP

CLASSES = ["ant", "bee", "cat", "dog", "elk", "fly", "gnu", "hen"]
TEMPLATES = ["a photo of a {}.", "a drawing of a {}.", "many {}s"]
WORDING = Wording("the first is larger than the second", "the first is smaller than the second")


@pytest.mark.parametrize("templates", [TEMPLATES[:1], TEMPLATES])
def test_zero_shot_accuracy_is_open_clips_to_the_last_digit(tiny_clip: DifferenceCLIP, templates: list[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (97, 3, 32, 32), generator=generator, dtype=torch.uint8)
    with torch.no_grad():
        images = tiny_clip.encode_images(pictures)
        tokenizer = open_clip.SimpleTokenizer()
        classifier = open_clip.build_zero_shot_classifier(tiny_clip.towers, tokenizer, CLASSES, templates)
        logits = 100 * images @ classifier
    # every other label is what open_clip says, so that accuracy is far from chance
    labels = torch.where(torch.arange(97) % 2 == 0, logits.argmax(1), torch.randint(8, (97,), generator=generator))
    theirs = {k: (logits.topk(k).indices == labels[:, None]).any(1).float().mean().item() for k in (1, 5)}
    ours = {
        row.name: row.value for row in zero_shot(tiny_clip, images, labels, CLASSES, templates, bootstrap=Bootstrap(0))
    }
    assert ours["top1"] == pytest.approx(theirs[1], abs=1e-7)
    assert ours["top5"] == pytest.approx(theirs[5], abs=1e-7)


def test_spearman_interval_is_scipys(make_encoder: Callable[..., Any], images: Tensor) -> None:
    encoder = make_encoder()
    values = images[:, 0].double() + 0.05 * torch.randn(40, generator=torch.Generator().manual_seed(2)).double()
    values = (values * 10).round()  # with ties
    rows = attribute_ranking(encoder, images, {"size": values}, {"size": [WORDING]}, bootstrap=Bootstrap(4000))
    ours = {row.name: row for row in rows}
    scores = attribute_scores(encoder, images, [WORDING])[0].numpy()
    for metric, statistic in (("spearman", scipy.stats.spearmanr), ("kendall", scipy.stats.kendalltau)):
        assert ours[metric].value == pytest.approx(statistic(scores, values).statistic, abs=1e-6)
        theirs = scipy.stats.bootstrap(
            (scores, values.numpy()),
            lambda one, other, statistic=statistic: statistic(one, other).statistic,
            paired=True,
            vectorized=False,
            n_resamples=700,
            method="percentile",
            rng=np.random.default_rng(0),
        ).confidence_interval
        assert ours[metric].low == pytest.approx(theirs.low, abs=0.05)
        assert ours[metric].high == pytest.approx(theirs.high, abs=0.05)


def test_accuracy_interval_is_scipys(make_encoder: Callable[..., Any], images: Tensor) -> None:
    labels = torch.arange(40) % 3
    encoder = make_encoder()
    top1 = zero_shot(encoder, images, labels, CLASSES[:3], TEMPLATES, bootstrap=Bootstrap(4000))[0]
    texts = torch.nn.functional.normalize(
        encoder.encode_texts([t.replace("{}", name) for name in CLASSES[:3] for t in TEMPLATES]).view(3, 3, -1).mean(1),
        dim=-1,
    )
    right = ((images @ texts.T).argmax(1) == labels).double().numpy()
    theirs = scipy.stats.bootstrap(
        (right,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert top1.value == pytest.approx(right.mean())
    assert top1.low == pytest.approx(theirs.low, abs=0.026)  # one image of forty
    assert top1.high == pytest.approx(theirs.high, abs=0.026)


def test_a_class_named_twice_is_refused(make_encoder: Callable[..., Any], images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"classes \['ant'\] are named more than once"):
        zero_shot(make_encoder(), images, torch.zeros(40, dtype=torch.long), ["ant", "bee", "ant"], TEMPLATES)
