"""Comparative zero-shot classification of pictures (arXiv 2409.09721, section 5), without labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcclip.metrics.comparative_prompting import compared, pair_indices
from pcclip.metrics.protocol import Comparative
from pcclip.metrics.zero_shot import class_embeddings
from pcclip.tools.gallery import Gallery
from pcclip.tools.inference import InferenceModel


@dataclass(frozen=True)
class Prediction:
    """The nearest and second nearest class of each picture.

    Attributes:
        classes: Names of the classes.
        first: Index of the nearest class, (N,).
        second: Index of the next one, (N,).
        cosine: Cosine with the nearest, (N,).
        margin: By how much it is nearer than the next, (N,).
    """

    classes: list[str]
    first: Tensor
    second: Tensor
    cosine: Tensor
    margin: Tensor


def classify(
    model: InferenceModel,
    gallery: Gallery,
    classes: Sequence[str],
    templates: Sequence[str],
    comparatives: Sequence[Comparative] = (),
    alpha: float = 0.8,
) -> Prediction:
    """Predict each picture's class.

    Args:
        model: The model.
        gallery: The pictures.
        classes: At least two, all different.
        templates: Sentences with `{}` for the class name.
        comparatives: Texts on how classes differ; without any, plain zero-shot.
        alpha: Weight of the plain class embedding against what the texts say.

    Raises:
        ValueError: Fewer than two classes, one twice, a bad template, an alpha outside 0 to 1, or a text about an
            unknown class.
    """
    if len(classes) < 2:
        raise ValueError(f"classes {list(classes)}: there must be at least two to choose among")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha {alpha}: must be from 0 (what the texts say alone) to 1 (plain prompts)")
    model.warn_of_cuts([template.replace("{}", name) for template in templates for name in classes])
    embeddings = class_embeddings(model.clip, classes, templates)
    if comparatives:
        first, second = (part.to(embeddings.device) for part in pair_indices(classes, comparatives))
        texts = model.embed_texts([comparative.text for comparative in comparatives])
        embeddings = compared(embeddings, first, second, texts, alpha)
    tops = [(chunk.to(embeddings.device) @ embeddings.T).topk(2) for chunk in gallery.chunks()]
    cosines = torch.cat([top.values.cpu() for top in tops])
    places = torch.cat([top.indices.cpu() for top in tops])
    return Prediction(list(classes), places[:, 0], places[:, 1], cosines[:, 0], cosines[:, 0] - cosines[:, 1])
