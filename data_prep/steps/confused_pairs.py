"""Step `confused_pairs`: the pairs of classes that a model confuses, chosen without labels.

Texts are written for these pairs (`class_texts`), and every model is then measured on them: run it once, with the base model.
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


@dataclass(kw_only=True)
class ConfusedPairs(Workers, OutputStep):
    """Choose the pairs of classes that a model confuses, without labels. Write JSON Lines `{"first", "second"}`."""

    version: ClassVar[int] = 1

    images: str
    """Folder of class folders, or of tars with `classnames.txt`, or a file of `conf/datasets`. Labels are not used."""
    names: str | None = field(default=None, metadata=UNRECORDED)
    """Text file to write as well: the names of all classes, one a line, for `class_texts --classes`."""
    count: PositiveInt
    """Number of pairs."""
    by: Literal["closest", "disagreement"] = "disagreement"
    """`closest`: the classes with the closest texts. `disagreement`: those between which images are undecided."""
    templates: list[str] | str = "openai"
    """Sentences with `{}` for the class name, whose embeddings are averaged; or `openai`, `simple`, or a file."""
    model: str
    """The base model: an open_clip name, `local-dir:FOLDER` or `hf-hub:NAME`."""
    pretrained: str | None = None
    """open_clip's pretrained tag or a weights file."""
    batch_size: PositiveInt = field(default=256, metadata=UNRECORDED)
    """Images encoded at a time."""
    cache_dir: str | None = field(default=None, metadata=UNRECORDED)
    """Folder in which image embeddings are kept, for the evaluations that follow."""

    def inputs(self) -> Mapping[str, str | Path]:
        weights = Path(self.model.removeprefix("local-dir:"), "open_clip_model.safetensors")
        return {"model": weights} if weights.is_file() else {}

    def is_current(self, manifest: Manifest) -> bool:
        return manifest.matches(Path(self.output), self._names())

    def _names(self) -> dict[str, str | Path]:
        return {} if self.names is None else {"names": Path(self.names)}

    def make(self, manifest: Manifest) -> Made:
        """Embed classes and images, and write the pairs.

        Raises:
            FileNotFoundError: The images, the model or a file is missing.
            ValueError: Images without labels, a bad template, or a model with embeddings that are not finite.
        """
        templates, labelled = read_templates(self.templates, self.name), read_labelled(self.name, self.images)
        classes = labelled.classes
        model = load_tower(self.model, self.pretrained)
        with torch.no_grad():
            texts = class_embeddings(model, classes, templates)
            if self.by == "closest":
                pairs = closest_pairs(texts, self.count)
            else:
                embeddings = ImageEmbeddings(self.batch_size, self.workers, self.cache_dir)
                images, _ = embeddings.embed(model, labelled.images, self.name, store=True)
                pairs = disagreement_pairs(images, texts, self.count)
        if self.names is not None:
            with atomic_text(self.names) as stream:
                stream.writelines(f"{name}\n" for name in classes)
        write_jsonl(Path(self.output), ({"first": classes[one], "second": classes[other]} for one, other in pairs))
        counts = {"classes": len(classes), "pairs": len(pairs)}
        return Made(counts, files=self._names(), message=f"{len(pairs)} pairs of {len(classes)} classes")


def closest_pairs(class_embeddings: Tensor, count: int) -> list[tuple[int, int]]:
    """Return the `count` pairs of classes with the closest unit embeddings (C, D): closest first, smaller index first.

    Raises:
        ValueError: An embedding is not finite.
    """
    check_finite(class_embeddings, "class embeddings")
    first, second = torch.triu_indices(len(class_embeddings), len(class_embeddings), offset=1)
    cosines = (class_embeddings @ class_embeddings.T).cpu()[first, second]
    order = cosines.argsort(descending=True, stable=True)[:count]
    return list(zip(first[order].tolist(), second[order].tolist(), strict=True))


def disagreement_pairs(images: Tensor, class_embeddings: Tensor, count: int) -> list[tuple[int, int]]:
    """Return the `count` pairs of classes between which unlabelled images are most often undecided.

    Counts the pair of the two nearest classes of each image, over the half of the images with the smallest margin between
    these two. There are at most `count` pairs, most frequent first; ties are ordered by how close the classes are.

    Args:
        images: Unit image embeddings, (N, D).
        class_embeddings: Unit, (C, D).
        count: Number of pairs wanted.

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
