"""Zero-shot classification: images against class texts made from templates."""

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn.functional import normalize, one_hot

from pcclip.metrics.bootstrap import Bootstrap, measured
from pcclip.metrics.protocol import Encoder, Metric, check_finite, embed_texts

DESCRIPTION = "{description}"


def class_embeddings(
    encoder: Encoder, classes: Sequence[str], templates: Sequence[str], descriptions: Mapping[str, str] | None = None
) -> Tensor:
    """Return class embeddings (C, D): the normalised mean over templates, as open_clip's `build_zero_shot_classifier`.

    Args:
        encoder: The model.
        classes: Names of the classes.
        templates: Sentences with `{}` for the class name, and optionally `{description}`.
        descriptions: Class name to a sentence about the class, for templates with `{description}`.

    Raises:
        ValueError: A class is named twice, a template has no `{}`, a description is missing, or an embedding is not finite.
    """
    if twice := sorted({name for name in classes if list(classes).count(name) > 1}):
        raise ValueError(f"classes {twice[:5]} are named more than once; rename or drop one")
    if bad := [template for template in templates if "{}" not in template]:
        raise ValueError(f'template "{bad[0]}" has no {{}} for the class name; write e.g. "a photo of a {{}}"')
    known = descriptions or {}
    texts = [
        template.replace("{}", name).replace(DESCRIPTION, known.get(name, DESCRIPTION))
        for name in classes
        for template in templates
    ]
    if bare := [text for text in texts if DESCRIPTION in text]:
        raise ValueError(f'"{bare[0]}": the class has no description; describe every class, or use another template')
    embedded = embed_texts(encoder, texts).view(len(classes), len(templates), -1)
    return normalize(embedded.mean(1), dim=-1)


def zero_shot(
    encoder: Encoder,
    images: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    templates: Sequence[str],
    *,
    descriptions: Mapping[str, str] | None = None,
    bootstrap: Bootstrap | None = None,
) -> list[Metric]:
    """Measure top-1, top-5 (with more than five classes), mean per class, and the accuracy of the worst class.

    Args:
        encoder: The model.
        images: Unit image embeddings, (N, D).
        labels: Index into `classes` of each image, (N,).
        classes: Names of the classes to choose among.
        templates: Sentences with `{}` for the class name.
        descriptions: See `class_embeddings`.
        bootstrap: Resampling of images.

    Returns:
        Classes without images remain candidates but do not count in the mean over classes. The interval of
        `worst_class` is that of the class found worst, and its `n` the number of its images.

    Raises:
        ValueError: An embedding is not finite, or as `class_embeddings`.
    """
    labels = labels.to(images.device)
    check_finite(images, "image embeddings")
    logits = images @ class_embeddings(encoder, classes, templates, descriptions).T
    draws = (bootstrap or Bootstrap()).draw(len(images), images.device)

    correct = (logits.argmax(1) == labels).float()
    metrics = [draws.mean("top1", correct)]
    if len(classes) > 5:
        metrics.append(draws.mean("top5", (logits.topk(5).indices == labels[:, None]).any(1).float()))

    per_class, resampled, counts = class_accuracies(correct, labels, len(classes), draws.weights)
    worst = int(per_class.argmin())
    mean = float(per_class.mean())
    metrics.append(measured("mean_per_class", mean, len(images), resampled.nanmean(1)))
    metrics.append(measured("worst_class", float(per_class[worst]), int(counts[worst]), resampled[:, worst]))
    return metrics


def class_accuracies(correct: Tensor, labels: Tensor, classes: int, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the accuracy of each of the K classes that have images, in the sample and in each resample.

    Args:
        correct: Whether each image is classified correctly, (N,) of 0 and 1.
        labels: Class of each image, (N,).
        classes: Number of classes.
        weights: Draws of each image, (R, N).

    Returns:
        Accuracies (K,), resampled accuracies (R, K) and numbers of images (K,).
    """
    member = one_hot(labels, classes).float()
    member = member[:, member.sum(0) > 0]
    counts = member.sum(0)
    return (correct @ member) / counts, (weights * correct) @ member / (weights @ member), counts
