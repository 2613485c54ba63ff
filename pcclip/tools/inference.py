"""Use a model: rank, compare and embed pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import open_clip
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from pcclip.command_line import ToolWarning
from pcclip.data.embedding_store import EmbeddingStore
from pcclip.data.labelled import Picture
from pcclip.metrics.protocol import Wording, check_finite, embed_texts
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.head import LinearHead
from pcclip.model.text import encode_tokens
from pcclip.tools.attributes import Attribute, read_attribute, wordings
from pcclip.tools.gallery import Gallery, embed_pictures
from pcclip.tools.picture_sources import GivenPicture, find_pictures

if TYPE_CHECKING:
    from pcclip.results import Result
    from pcclip.tasks import Task

Images = str | Path | Sequence[str | Path | Image.Image]
OneImage = str | Path | Image.Image


@dataclass(frozen=True)
class Ranked:
    """Picture in a ranking."""

    path: str
    score: float
    """Position on the axis; 0 is the mean picture."""
    rank: int
    """1 for the highest score."""
    percentile: float
    """Percentage of the other pictures with a lower score."""


class InferenceModel(nn.Module):
    """CLIP with its difference head, in evaluation mode and without gradients.

    `encode_image`, `encode_text`, `tokenizer` and `preprocess` have the interface of an open_clip model, for CLIP_benchmark
    and similar tools.

    Example:
        >>> model = pcclip.load("runs/demo/finetuned")
        >>> model.rank("photos", more="the first is larger than the second", less="the first is smaller than the second")

    Attributes:
        clip: The towers and the head.
        source: Name, path or address that the model was loaded from.
        preprocess: PIL image to normalised pixels (3, H, W), like open_clip's.
    """

    def __init__(self, clip: DifferenceCLIP, source: str) -> None:
        super().__init__()
        self.clip = clip.requires_grad_(False).eval()
        self.source = source
        self.preprocess = image_transform_v2(
            PreprocessCfg(**open_clip.get_model_preprocess_cfg(clip.towers)), is_train=False
        )

    def rank(
        self,
        images: Images,
        more: str | Sequence[str] = (),
        less: str | Sequence[str] = (),
        *,
        attribute: str | Attribute | None = None,
        cache: str | Path | None = None,
    ) -> list[Ranked]:
        """Rank pictures on the axis from `less` to `more`, highest score first.

        Args:
            images: Folder, pattern, list or shard (see `pcclip.tools.picture_sources.find_pictures`), or a sequence of paths
                and PIL images.
            more: Text that is true of (first, second) if the first picture has more. Several texts are averaged.
            less: Opposite text; one for each of `more`.
            attribute: Name of a shipped axis, such as `size`, or result of `read_attribute`, instead of both.
            cache: Folder for cached embeddings of files.

        Raises:
            FileNotFoundError: A source does not exist.
            ValueError: No picture is readable, the numbers of `more` and `less` differ, or the attribute is unknown.
        """
        if attribute is None:
            texts = wordings(more, less)
        elif more or less:
            raise ValueError("give either more and less, or attribute")
        else:
            texts = (read_attribute(attribute) if isinstance(attribute, str) else attribute).wordings
        gallery = self.embed(images, cache=cache)
        return list(in_order(gallery, self.scores(gallery, self.axis(texts))))

    def evaluate(self, tasks: Sequence[Task], **settings: Any) -> list[Result]:
        """Evaluate the model on tasks of `pcclip.tasks`, without a Trainer.

        Example:
            >>> from pcclip.tasks import ZeroShot
            >>> model.evaluate([ZeroShot(name="mine", images="data/mine/classes", templates="openai")])

        Args:
            tasks: The tasks.
            settings: `resamples`, `seed`, `batch_size`, `num_workers` and `cache_dir` of `pcclip.tasks.evaluate`.

        Raises:
            FileNotFoundError: A file of a task is missing.
            ValueError: Files do not match each other or the model, or embeddings are not finite.
        """
        from pcclip.tasks import evaluate  # here: the other methods need no Lightning

        return evaluate(self.clip, tasks, **settings)

    def difference(self, first: OneImage, second: OneImage) -> Tensor:
        """Return the unit difference (D,) of two pictures, in the space of texts: `normalize(head(first - second))`.

        Raises:
            ValueError: A picture is unreadable, or one of the two is a folder or list of several.
        """
        pictures = _pictures([first, second])
        if len(pictures) != 2:
            raise ValueError(f"{first} and {second}: hold {len(pictures)} pictures; name two picture files")
        gallery = self.embed_pictures(pictures)
        for key, reason in gallery.unreadable.items():
            raise ValueError(f"{key}: {reason}")
        a, b = gallery.embeddings.to(self.clip.device)
        return self.clip.difference(a, b)

    def compare(self, first: OneImage, second: OneImage, texts: Sequence[str]) -> dict[str, float]:
        """Return the cosine of the pictures' difference with each text, highest first."""
        cosines = self.embed_texts(texts) @ self.difference(first, second)
        return dict(sorted(zip(texts, cosines.tolist(), strict=True), key=lambda item: -item[1]))

    def axis(self, axis_wordings: Sequence[Wording]) -> Tensor:
        """Return the axis (D,) of a ranking: the mean over wordings of `text - reverse`."""
        more = self.embed_texts([wording.text for wording in axis_wordings])
        less = self.embed_texts([wording.reverse for wording in axis_wordings])
        return (more - less).mean(0)

    def scores(self, gallery: Gallery, axis: Tensor, centre: Tensor | None = None) -> Tensor:
        """Return the scores (N,) of pictures: `head(image - centre) . axis`. The `attribute_ranking` task uses the same scores.

        Args:
            gallery: N pictures.
            axis: (D,), from `axis`.
            centre: Embedding (D,) with score 0; the gallery's mean by default.

        Raises:
            ValueError: A score is not finite.
        """
        middle = gallery.mean() if centre is None else centre
        parts = [self.clip.project((chunk - middle).to(axis.device)) @ axis for chunk in gallery.chunks()]
        scores = torch.cat(parts).cpu()
        check_finite(scores, "scores of pictures")
        return scores

    def embed(self, images: Images, *, cache: str | Path | None = None) -> Gallery:
        """Return unit embeddings of pictures; see `rank` for `images` and `cache`."""
        return self.embed_pictures(_pictures(images), cache=cache)

    def embed_pictures(
        self,
        pictures: Sequence[Picture],
        *,
        cache: str | Path | None = None,
        batch_size: int = 256,
        workers: int | None = None,
        progress: bool = False,
    ) -> Gallery:
        """Return unit embeddings of pictures, cached in a folder. Other arguments: `gallery.embed_pictures`."""
        store = None if cache is None else EmbeddingStore(cache, self.clip.image_fingerprint, self.clip.embed_dim)
        return embed_pictures(
            self.clip, pictures, store=store, batch_size=batch_size, workers=workers, progress=progress
        )

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit embeddings (N, D). Warn about texts that are longer than the context."""
        self.warn_of_cuts(texts)
        return embed_texts(self.clip, texts)

    def warn_of_cuts(self, texts: Sequence[str]) -> None:
        """Warn about texts that are longer than the context, and say what is cut off."""
        for text in dict.fromkeys(texts):
            if cut := self.clip.tokenizer.overflow(text):
                warnings.warn(f"text too long for the model, cut off: ...{cut!r}", ToolWarning, stacklevel=2)

    def shift(self, axis: Tensor) -> Tensor:
        """Return the change of an image embedding (D,) that the head maps to `axis` (D,).

        Raises:
            ValueError: The head is an MLP, which has no inverse.
        """
        if isinstance(self.clip.head, nn.Identity):
            return axis
        if isinstance(self.clip.head, LinearHead):
            moved: Tensor = torch.linalg.solve(self.clip.head.weight.detach(), axis)
            return moved
        raise ValueError(
            f"{self.source}: its MLP head has no inverse, so images cannot be moved by texts; use a model with another head"
        )

    def tokenizer(self, texts: str | Sequence[str]) -> Tensor:
        """Return token ids (N, L), trimmed to the longest text."""
        return self.clip.tokenizer([texts] if isinstance(texts, str) else texts)

    @property
    def logit_scale(self) -> Tensor:
        """Return the logarithm of CLIP's logit scale, as in open_clip."""
        scale: Tensor = self.clip.towers.logit_scale
        return scale

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Encode normalised pixels (N, 3, H, W) to embeddings (N, D), as open_clip does."""
        self.clip.require_image_tower("pixels")
        features: Tensor = self.clip.towers.encode_image(image)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Encode token ids (N, L) to embeddings (N, D), as open_clip does."""
        features = encode_tokens(self.clip.towers, text)
        return F.normalize(features, dim=-1) if normalize else features

    def forward(self, image: Tensor | None = None, text: Tensor | None = None) -> tuple[Any, Any, Tensor]:
        """Return unit image and text embeddings and the logit scale, as open_clip does."""
        return (
            None if image is None else self.encode_image(image, normalize=True),
            None if text is None else self.encode_text(text, normalize=True),
            self.logit_scale.exp(),
        )


def in_order(gallery: Gallery, scores: Tensor) -> Iterator[Ranked]:
    """Yield the pictures by descending score (N,). Equal scores keep the gallery's order and have the same percentile."""
    lower = torch.searchsorted(scores.sort().values, scores).tolist()
    others = max(1, len(scores) - 1)
    for rank, index in enumerate(scores.argsort(descending=True, stable=True).tolist(), start=1):
        yield Ranked(gallery.pictures[index].key, float(scores[index]), rank, 100 * lower[index] / others)


def _pictures(images: Images) -> Sequence[Picture]:
    if isinstance(images, str | Path):
        return find_pictures([images])
    pictures: list[Picture] = []
    for number, image in enumerate(images):
        if isinstance(image, Image.Image):
            pictures.append(GivenPicture(f"picture {number}", image))
        else:
            pictures += find_pictures([image])
    if not pictures:
        raise ValueError("no pictures given")
    return pictures
