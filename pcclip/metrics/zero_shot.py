"""Zero-shot classification: images against class texts made from templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.metrics.bootstrap import RESAMPLES, SEED, interval, resample_weights, weighted_mean
from pcclip.metrics.embed import check_finite, embed_texts
from pcclip.metrics.protocol import Encoder, Result

TASK = "zero_shot"
DESCRIPTION = "{description}"


def class_embeddings(
    encoder: Encoder,
    classes: Sequence[str],
    templates: Sequence[str],
    descriptions: Mapping[str, str] | None = None,
    *,
    where: str = "zero-shot",
) -> Tensor:
    """Class embeddings (C, D): the normalised mean over templates of text embeddings, as open_clip's
    `build_zero_shot_classifier` makes them.

    Args:
        encoder: The model.
        classes: Names of the classes.
        templates: Sentences with `{}` for the class name, and perhaps `{description}`.
        descriptions: A sentence on each class, for templates that have a place for it.
        where: Task and set, for messages.

    Raises:
        ValueError: There is no class or no template, a class is named twice, a template lacks the place `{}` for the
            class name, or an embedding is not finite.
    """
    if not classes or not templates:
        raise ValueError(f"{where}: needs classes and templates, got {len(classes)} and {len(templates)}")
    if len(set(classes)) < len(classes):
        twice = sorted({name for name in classes if list(classes).count(name) > 1})
        raise ValueError(
            f"classes {twice[:5]} are named more than once; texts cannot tell them apart, rename or drop one"
        )
    for template in templates:
        if "{}" not in template:
            raise ValueError(f'template "{template}": has no {{}} for the class name; write e.g. "a photo of a {{}}"')
    said = descriptions or {}
    texts = [
        template.replace("{}", name).replace(DESCRIPTION, said.get(name, DESCRIPTION))
        for name in classes
        for template in templates
    ]
    if bare := [text for text in texts if DESCRIPTION in text]:
        raise ValueError(f'"{bare[0]}": no description for it; give one of every class, or another template')
    embedded = embed_texts(encoder, texts, where).view(len(classes), len(templates), -1)
    return normalize(embedded.mean(1), dim=-1)


def zero_shot(
    encoder: Encoder,
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    templates: Sequence[str],
    *,
    descriptions: Mapping[str, str] | None = None,
    subset: str = "",
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[Result]:
    """Top-1, top-5 (with more than five classes), mean per class, and the worst class's accuracy.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        labels: Index into `classes` of each image, (N,).
        classes: Names of the classes to choose among.
        templates: Sentences with `{}` for the class name.
        descriptions: See `class_embeddings`.
        subset: Name of the image set.
        resamples: Bootstrap resamples of images; 0 leaves the intervals NaN.
        seed: Seed of the resamples.

    Returns:
        Classes without images are choices, but have no part in the mean over classes. The interval of `worst_class`
        is that of the class found worst, and its `n` the number of its images.

    Raises:
        ValueError: No image, fewer than two classes, a label outside the classes, an image embedding that is not finite,
            or what `class_embeddings` raises.
    """
    where = f"zero-shot set {subset}"
    labels = labels.to(images.device)
    if len(classes) < 2:
        raise ValueError(f"{where}: classes {list(classes)}; there must be at least two to choose among")
    if len(images) == 0 or len(images) != len(labels):
        raise ValueError(f"{where}: {len(images)} images and {len(labels)} labels; both must be equal")
    if int(labels.min()) < 0 or int(labels.max()) >= len(classes):
        raise ValueError(f"{where}: labels {int(labels.min())} to {int(labels.max())} for {len(classes)} classes")
    check_finite(images, f"{where}: image embeddings")
    logits = images @ class_embeddings(encoder, classes, templates, descriptions, where=where).T
    weights = resample_weights(len(images), resamples, seed).to(images.device)

    def result(metric: str, value: Tensor, n: int, statistics: Tensor) -> Result:
        low, high = interval(statistics)
        return Result(TASK, subset, metric, float(value), n, low, high)

    correct = (logits.argmax(1) == labels).float()
    results = [result("top1", correct.mean(), len(images), weighted_mean(weights, correct))]
    if len(classes) > 5:
        in_top5 = (logits.topk(5).indices == labels[:, None]).any(1).float()
        results.append(result("top5", in_top5.mean(), len(images), weighted_mean(weights, in_top5)))

    member = torch.nn.functional.one_hot(labels, len(classes)).float()
    member = member[:, member.sum(0) > 0]
    per_class = (correct @ member) / member.sum(0)
    per_class_resampled = (weights * correct) @ member / (weights @ member)
    worst = int(per_class.argmin())
    worst_count = int(member.sum(0)[worst])
    results.append(result("mean_per_class", per_class.mean(), len(images), per_class_resampled.nanmean(1)))
    results.append(result("worst_class", per_class[worst], worst_count, per_class_resampled[:, worst]))
    return results
