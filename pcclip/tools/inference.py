"""Use a model: rank, compare and embed pictures."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pcclip.command_line import ToolWarning
from pcclip.data.embedding_store import EmbeddingStore
from pcclip.data.labelled import Picture
from pcclip.metrics.axes import blended_axis, example_axis, text_axes, text_weights
from pcclip.metrics.protocol import Wording, check_finite, embed_texts
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.head import LinearHead
from pcclip.tools.attributes import Attribute, Explained, explained, of_texts, read_attribute, vocabulary, wordings
from pcclip.tools.gallery import Gallery, Ranked, embed_pictures, in_order
from pcclip.tools.open_clip_interface import OpenClipInterface
from pcclip.tools.picture_sources import Images, OneImage, given_pictures

if TYPE_CHECKING:
    from pcclip.results import Result
    from pcclip.tasks import Task

SAME = 1e-5  # difference of two embeddings of the same picture, at most


class InferenceModel(OpenClipInterface):
    """CLIP with its difference head, in evaluation mode and without gradients.

    Example:
        >>> model = pcclip.load("runs/demo/finetuned")
        >>> model.rank("photos", more="the first is larger than the second", less="the first is smaller than the second")

    Attributes:
        source: Name, path or address that the model was loaded from.
    """

    def __init__(self, clip: DifferenceCLIP, source: str) -> None:
        super().__init__(clip)
        self.source = source

    def rank(
        self,
        images: Images,
        more: str | Sequence[str] = (),
        less: str | Sequence[str] = (),
        *,
        attribute: str | Attribute | None = None,
        high: Images = (),
        low: Images = (),
        blend: float | None = None,
        cache: str | Path | None = None,
    ) -> list[Ranked]:
        """Rank pictures on the axis from `less` to `more`, from `low` to `high`, or a blend of both; highest score first.

        Args:
            images: Folder, pattern, list or shard (see `pcclip.tools.picture_sources.find_pictures`), or a sequence of paths
                and PIL images.
            more: Text that is true of (first, second) if the first picture has more. Several texts are averaged.
            less: Opposite text; one for each of `more`.
            attribute: Name of a shipped axis, such as `size`, or result of `read_attribute`, instead of both.
            high: Examples with much of it, as `images`, instead of texts or with them.
            low: Examples with little of it.
            blend: Weight of the texts from 0 to 1, if there are examples too. Default:
                `pcclip.metrics.axes.text_weights`.
            cache: Folder for cached embeddings of files.

        Raises:
            FileNotFoundError: A source does not exist.
            ValueError: No picture or not every example is readable, the numbers of `more` and `less` differ, the attribute is
                unknown, or as `axis` raises it.
        """
        if attribute is None:
            texts = wordings(more, less) if more or less or not (high or low) else []
        elif more or less:
            raise ValueError("give either more and less, or attribute")
        else:
            texts = (read_attribute(attribute) if isinstance(attribute, str) else attribute).wordings
        ends = [self.embed_readable(given_pictures(end), cache=cache) if end else None for end in (high, low)]
        axis = self.axis(texts, *ends, blend=blend)
        gallery = self.embed(images, cache=cache)
        return list(in_order(gallery, self.scores(gallery, axis)))

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
        pictures = given_pictures([first, second])
        if len(pictures) != 2:
            raise ValueError(f"{first} and {second}: hold {len(pictures)} pictures; name two picture files")
        a, b = self.embed_readable(pictures)
        return self.clip.difference(a, b)

    def compare(self, first: OneImage, second: OneImage, texts: Sequence[str]) -> dict[str, float]:
        """Return the cosine of the pictures' difference with each text, highest first."""
        cosines = self.embed_texts(texts) @ self.difference(first, second)
        return dict(sorted(zip(texts, cosines.tolist(), strict=True), key=lambda item: -item[1]))

    def explain(
        self,
        first: OneImage,
        second: OneImage,
        texts: Mapping[str, str] | Sequence[str | Attribute] | None = None,
    ) -> list[Explained]:
        """Return what the model thinks differs between two pictures, the difference texts with the largest margin first.

        Args:
            first: A picture.
            second: Another.
            texts: Difference texts with their reverses; texts whose reverse has "first" and "second" exchanged; or attributes.
                By default the shipped vocabulary of photographs.

        Raises:
            ValueError: As `difference` or `of_texts` raises it.
        """
        axes = vocabulary() if texts is None else of_texts(texts)
        return explained(axes, self.margins(axes, self.difference(first, second)))

    def margins(self, axes: Sequence[Attribute], difference: Tensor) -> list[float]:
        """Return the mean cosine of a difference (D,) with the texts of each axis minus that with their reverses."""
        texts = [wording for axis in axes for wording in axis.wordings]
        margins = torch.split(self._text_axes(texts) @ difference, [len(axis.wordings) for axis in axes])
        return [float(margin.mean()) for margin in margins]

    def axis(
        self,
        axis_wordings: Sequence[Wording] = (),
        high: Tensor | None = None,
        low: Tensor | None = None,
        *,
        blend: float | None = None,
    ) -> Tensor:
        """Return the axis (D,) of a ranking.

        It is the mean over wordings of `text - reverse`, the unit difference of the mean embeddings of examples, or a blend of
        both (`pcclip.metrics.axes`).

        Args:
            axis_wordings: Opposite texts.
            high: Unit embeddings (h, D) of examples with much of it.
            low: Unit embeddings (l, D) of examples with little of it.
            blend: Weight of the texts from 0 to 1, if there are examples too. Default: `pcclip.metrics.axes.text_weights`.

        Raises:
            ValueError: Neither texts nor examples, examples of one end only, examples with the same mean embedding, another
                `blend`, or `blend` without texts or without examples.
        """
        if (high is None) != (low is None) or not (axis_wordings or high is not None):
            raise ValueError("give texts, or both high and low examples")
        if blend is not None and (high is None or not axis_wordings):
            raise ValueError(f"blend: {blend} blends texts with examples; give both, or leave it out")
        if high is None or low is None:
            return self._text_axes(axis_wordings).mean(0)
        if blend is not None and not 0 <= blend <= 1:
            raise ValueError(f"blend: {blend} is not between 0 and 1")
        if torch.allclose(high.mean(0), low.mean(0), atol=SAME):
            raise ValueError(
                "the high and the low examples are the same pictures to this model; give pictures that differ"
            )
        examples = example_axis(self.clip, high, low)
        if not axis_wordings:
            return examples
        texts = self._text_axes(axis_wordings).mean(0, keepdim=True)
        weight = text_weights(self.clip, texts, high, low) if blend is None else blend
        return blended_axis(texts, examples, weight)[0]

    def _text_axes(self, axis_wordings: Sequence[Wording]) -> Tensor:
        self.warn_of_cuts([text for wording in axis_wordings for text in (wording.text, wording.reverse)])
        return text_axes(self.clip, axis_wordings)

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
        return self.embed_pictures(given_pictures(images), cache=cache)

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

    def embed_readable(self, pictures: Sequence[Picture], *, cache: str | Path | None = None) -> Tensor:
        """Return unit embeddings (N, D) of pictures on the model's device.

        Raises:
            ValueError: A picture is unreadable.
        """
        gallery = self.embed_pictures(pictures, cache=cache)
        for key, reason in gallery.unreadable.items():
            raise ValueError(f"{key}: {reason}")
        return gallery.embeddings.to(self.clip.device)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit embeddings (N, D). Warn about texts that are longer than the context."""
        self.warn_of_cuts(texts)
        return embed_texts(self.clip, texts)

    def warn_of_cuts(self, texts: Sequence[str]) -> None:
        """Warn about texts that are longer than the context."""
        for text in dict.fromkeys(texts):
            if not self.clip.tokenizer.fits(text):
                warnings.warn(f"text too long for the model, its end is cut off: {text!r}", ToolWarning, stacklevel=2)

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
