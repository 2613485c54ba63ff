"""Step `confused_pairs`: choose the pairs of classes that a model confuses, without labels.

Run it once, with the base model. The step `class_texts` writes texts for these pairs, and all models are evaluated on them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from data_prep.files import write_jsonl
from data_prep.manifest import Manifest
from data_prep.step import UNRECORDED, Made, OutputStep, Workers
from data_prep.steps.tower import load_tower
from pcclip.atomic import atomic_text
from pcclip.metrics.protocol import check_finite
from pcclip.metrics.zero_shot import class_embeddings
from pcclip.tasks.classes import read_labelled, read_templates
from pcclip.tasks.images import ImageEmbeddings

BATCH = 256  # images


@dataclass(kw_only=True)
class ConfusedPairs(Workers, OutputStep):
    """Choose the pairs of classes that a model confuses, without labels. Writes JSON Lines `{"first", "second"}`."""

    version: ClassVar[int] = 1

    images: str
    """Folder of class folders, or of tars with `classnames.txt`, or a file of `conf/datasets`. Labels are not used."""
    names: str | None = field(default=None, metadata=UNRECORDED)
    """Second output: a text file with all class names, one per line, for `class_texts --classes`."""
    count: PositiveInt
    """Number of pairs."""
    by: Literal["closest", "disagreement"] = "disagreement"
    """`closest`: classes with the most similar text embeddings. `disagreement`: classes most often confused by images."""
    templates: list[str] | str = "openai"
    """Prompt templates with `{}` for the class name, or `openai`, `simple`, or a file. Their embeddings are averaged."""
    model: str
    """The base model: an open_clip name, `local-dir:FOLDER` or `hf-hub:NAME`."""
    pretrained: str | None = None
    """open_clip's pretrained tag or a weights file."""
    cache_dir: str | None = field(default=None, metadata=UNRECORDED)
    """Cache folder of image embeddings, shared with later evaluations."""

    def inputs(self) -> Mapping[str, str | Path]:
        weights = Path(self.model.removeprefix("local-dir:"), "open_clip_model.safetensors")
        return {"model": weights} if weights.is_file() else {}

    def make(self, manifest: Manifest) -> Made:
        templates, labelled = read_templates(self.templates, self.name), read_labelled(self.name, self.images)
        classes = labelled.classes
        model = load_tower(self.model, self.pretrained, "confused_pairs.model")
        with torch.no_grad():
            texts = class_embeddings(model, classes, templates)
            if self.by == "closest":
                pairs = closest_pairs(texts, self.count)
            else:
                embeddings = ImageEmbeddings(BATCH, self.workers, self.cache_dir)
                images, _ = embeddings.embed(model, labelled.images, self.name, store=True)
                pairs = disagreement_pairs(images, texts, self.count)
        if self.names is not None:
            with atomic_text(self.names) as stream:
                stream.writelines(f"{name}\n" for name in classes)
        write_jsonl(Path(self.output), ({"first": classes[one], "second": classes[other]} for one, other in pairs))
        counts = {"classes": len(classes), "pairs": len(pairs)}
        return Made(
            counts,
            files=[] if self.names is None else [Path(self.names)],
            message=f"{len(pairs)} pairs of {len(classes)} classes",
        )


def closest_pairs(class_embeddings: Tensor, count: int) -> list[tuple[int, int]]:
    """Return the `count` pairs of classes with the most similar unit embeddings (C, D), most similar first.

    Raises:
        ValueError: An embedding is not finite.
    """
    check_finite(class_embeddings, "class embeddings")
    first, second = torch.triu_indices(len(class_embeddings), len(class_embeddings), offset=1)
    cosines = (class_embeddings @ class_embeddings.T).cpu()[first, second]
    order = cosines.argsort(descending=True, stable=True)[:count]
    return list(zip(first[order].tolist(), second[order].tolist(), strict=True))


def disagreement_pairs(images: Tensor, class_embeddings: Tensor, count: int) -> list[tuple[int, int]]:
    """Return the `count` pairs of classes that unlabelled images confuse most often, most frequent first.

    Each image counts for the pair of its two nearest classes. Only the half of the images with the smallest margin between
    the two is used. Ties are sorted by the similarity of the classes.

    Args:
        images: Unit image embeddings, (N, D).
        class_embeddings: Unit class embeddings, (C, D).
        count: Maximum number of pairs.

    Raises:
        ValueError: An embedding is not finite.
    """
    check_finite(class_embeddings, "class embeddings")
    check_finite(images, "image embeddings")
    scores, nearest = (images @ class_embeddings.T).topk(2)
    margin = scores[:, 0] - scores[:, 1]
    undecided = nearest[margin <= margin.median()].sort(1).values.cpu()
    pairs, frequency = torch.unique(undecided, dim=0, return_counts=True)
    cosines = (class_embeddings @ class_embeddings.T).cpu()[pairs[:, 0], pairs[:, 1]]
    ranked = sorted(
        zip(frequency.tolist(), cosines.tolist(), map(tuple, pairs.tolist()), strict=True),
        key=lambda row: (-row[0], -row[1], row[2]),
    )
    return [(first, second) for _, _, (first, second) in ranked[:count]]
