"""What the page of `pcclip demo` answers with one model: rankings, searches, comparisons and classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from pathlib import Path

import torch
from PIL import Image
from scipy.stats import kendalltau
from torch import Tensor

from pcclip.reports.contact_sheet import spread
from pcclip.tools.attributes import Attribute, explained
from pcclip.tools.gallery import Gallery
from pcclip.tools.inference import InferenceModel
from pcclip.tools.search import exact_index, search

STRIP = 12  # pictures of a ranking, spread evenly over it
AROUND = 6  # pictures at one place of a ranking
FOUND = 8  # pictures that a search returns
CLASSIFIED = 48  # pictures of all classes together
PER_CLASS = 6
COMPARED = 7  # axes of a comparison besides the visitor's own
HIGH, LOW = "high", "low"  # marks of examples
THUMBNAIL = 224  # pixels
SAME = 1 - 1e-5  # a picture whose cosine with the query is higher is the query itself

Picked = str | Image.Image | None
"""A picture that the visitor chose: the name of one of the set, or an upload. None before the first choice."""


@dataclass(frozen=True)
class Examples:
    """What the page offers without typing."""

    axes: Sequence[Attribute]
    """A button for each. The page opens with the first."""
    classes: Sequence[str]
    template: str
    """Text of a class, with `{}` for its name."""
    vocabulary: Sequence[Attribute]
    """Two pictures are compared on these, next to the visitor's own axis."""


@dataclass(frozen=True)
class Tile:
    """A picture of the set as the page shows it."""

    key: str
    picture: Image.Image
    caption: str


@dataclass(frozen=True)
class Ranking:
    """The pictures of a set along an axis."""

    scores: Tensor
    """Place of each picture on the axis, (N,); 0 is the mean picture."""
    order: Tensor
    """Indices of the pictures, least first, (N,)."""
    agreement: float
    """Share of pairs of pictures that the texts and their opposites order alike, or with examples, the words and the examples.
    NaN if all scores are equal."""


@dataclass(frozen=True)
class Shown:
    """A model, and a set of pictures as it embeds them."""

    model: InferenceModel
    gallery: Gallery

    def ranking(self, axis: Attribute, marks: Mapping[str, str] | None = None, blend: float | None = None) -> Ranking:
        """Rank the pictures along an axis.

        Args:
            axis: The axis in words.
            marks: Names of pictures that are examples, to `HIGH` or `LOW`. They count once both ends have one.
            blend: Weight of the words, if there are examples. Default: `pcclip.metrics.axes.text_weights`.

        Raises:
            ValueError: The high and the low examples are the same to the model.
        """
        more, less = (
            self.model.scores(self.gallery, self.model.embed_texts(texts).mean(0))
            for texts in ([each.text for each in axis.wordings], [each.reverse for each in axis.wordings])
        )
        scores, one, other = more - less, more, -less
        high, low = (self._marked(marks or {}, mark) for mark in (HIGH, LOW))
        if high and low:
            ends = [self.gallery.embeddings[places].to(self.model.clip.device) for places in (high, low)]
            one, other = scores, self.model.scores(self.gallery, self.model.axis((), *ends))
            scores = self.model.scores(self.gallery, self.model.axis(axis.wordings, *ends, blend=blend))
        agreement = (1 + float(kendalltau(one.numpy(), other.numpy()).statistic)) / 2
        return Ranking(scores, scores.argsort(stable=True), agreement)

    def examples(self, marks: Mapping[str, str]) -> list[Tile]:
        """Return the marked pictures of this set, high ones first."""
        return [self._tile(place, mark) for mark in (HIGH, LOW) for place in self._marked(marks, mark)]

    def strip(self, ranking: Ranking) -> list[Tile]:
        """Return pictures spread evenly over a ranking, least first."""
        return self._ranked(ranking, spread(len(ranking.order), STRIP))

    def around(self, ranking: Ranking, percent: float) -> list[Tile]:
        """Return the pictures around a place of a ranking: 0 % is the picture with least, 100 % the one with most."""
        count = len(ranking.order)
        start = round(percent / 100 * (count - 1)) - AROUND // 2
        start = max(0, min(start, count - AROUND))
        return self._ranked(ranking, range(start, min(count, start + AROUND)))

    def found(self, picked: Picked, axis: Attribute, factor: float) -> list[Tile]:
        """Return the pictures nearest to `picked + factor * axis`, except the picked one.

        Raises:
            ValueError: The model's head cannot be undone.
        """
        image = self._embedding(picked)
        same = [chunk @ image > SAME for chunk in self.gallery.chunks()]
        exclude = [self.gallery.pictures[index].key for index in torch.cat(same).nonzero().view(-1).tolist()]
        shift: Tensor = self.model.shift(self.model.axis(axis.wordings)).cpu()
        rows = search(
            self.gallery, exact_index(self.gallery), image, shift, factor=factor, count=FOUND, exclude=exclude
        )
        return [self._tile(row.index, f"{row.cosine:.3f}") for row in rows]

    def compared(self, first: Picked, second: Picked, axes: Sequence[Attribute]) -> dict[str, float]:
        """Return what the first picture has more of, and the model's probability of it, surest first.

        The probability is that of the texts against their opposites: a softmax over their mean cosines with the difference
        of the pictures, at the model's logit scale.

        Args:
            first: A picture.
            second: Another.
            axes: The visitor's own axis, and others. Only those `COMPARED` others with the largest margins are returned.
        """
        a, b = (self._embedding(picked).to(self.model.clip.device)[None] for picked in (first, second))
        margins = self.model.margins(axes, self.model.clip.difference(a, b)[0])
        rows = [*explained(axes[:1], margins[:1]), *explained(axes[1:], margins[1:])[:COMPARED]]
        scale = float(self.model.logit_scale.exp())
        return {row.text: 1 / (1 + exp(-scale * row.margin)) for row in sorted(rows, key=lambda row: -row.margin)}

    def classified(self, classes: Sequence[str], template: str) -> tuple[dict[str, float], list[Tile]]:
        """Classify all pictures zero-shot.

        Returns:
            Each class's share of the pictures, and pictures of each class, from the surest to the least sure.
        """
        texts = self.model.embed_texts([template.replace("{}", name) for name in classes])
        scale = self.model.logit_scale.exp()
        parts = [(scale * (chunk.to(texts.device) @ texts.T)).softmax(-1).cpu() for chunk in self.gallery.chunks()]
        sure, predicted = torch.cat(parts).max(-1)
        shares, tiles = {}, []
        most = max(1, min(PER_CLASS, CLASSIFIED // len(classes)))
        for number, name in enumerate(classes):
            own = (predicted == number).nonzero().view(-1)
            shares[name] = len(own) / len(predicted)
            own = own[sure[own].argsort(descending=True, stable=True)]
            chosen = own[spread(len(own), most)].tolist()
            tiles += [self._tile(index, f"{name} {sure[index]:.0%}") for index in chosen]
        return shares, tiles

    def named(self, picked: Picked, default: int) -> Picked:
        """Return what was picked, or the name of the `default`-th picture if nothing was, or if it is not in this set."""
        known = isinstance(picked, Image.Image) or self._index(picked) is not None
        return picked if known else self.gallery.pictures[min(default, len(self.gallery.pictures) - 1)].key

    def thumbnail(self, picked: Picked) -> Image.Image:
        """Return what was picked as a small picture."""
        if isinstance(picked, Image.Image):
            small = picked.copy()
            small.thumbnail((THUMBNAIL, THUMBNAIL))
            return small
        return self._thumbnail(self._known(picked))

    def _ranked(self, ranking: Ranking, places: Sequence[int]) -> list[Tile]:
        count = len(ranking.order)
        indices = [int(ranking.order[place]) for place in places]
        return [
            self._tile(index, f"{count - place}: {ranking.scores[index]:+.3f}")
            for place, index in zip(places, indices, strict=True)
        ]

    def _embedding(self, picked: Picked) -> Tensor:
        """Return the unit embedding (D,) of what was picked."""
        if isinstance(picked, Image.Image):
            return self.model.embed([picked]).embeddings[0]
        return self.gallery.embeddings[self._known(picked)]

    def _known(self, key: str | None) -> int:
        index = self._index(key)
        if index is None:
            raise ValueError(f"{Path(key or '').name}: not among these pictures")
        return index

    def _marked(self, marks: Mapping[str, str], mark: str) -> list[int]:
        """Return the indices of pictures with a mark. Pictures of other sets are left out."""
        places = (self._index(key) for key, own in marks.items() if own == mark)
        return [place for place in places if place is not None]

    def _index(self, key: str | None) -> int | None:
        return next((index for index, picture in enumerate(self.gallery.pictures) if picture.key == key), None)

    def _tile(self, index: int, caption: str) -> Tile:
        return Tile(self.gallery.pictures[index].key, self._thumbnail(index), caption)

    def _thumbnail(self, index: int) -> Image.Image:
        picture = self.gallery.pick(index, THUMBNAIL) or Image.new("RGB", (THUMBNAIL, THUMBNAIL), "grey")
        scale = THUMBNAIL / max(picture.size)
        return picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
