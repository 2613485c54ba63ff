"""Ranking of images or classes by graded attributes, with a picture of the order of each attribute."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.data.labelled import ImageFile, ImageSet, decoded
from pcclip.data.shard_index import named_in
from pcclip.data.stored_embeddings import open_array, unit
from pcclip.datasets.sources import AttributeSource, ImageSource, find_source, open_images
from pcclip.datasets.tables import Table, read_table
from pcclip.datasets.texts import read_texts
from pcclip.metrics.attribute_ranking import attribute_ranking, attribute_scores
from pcclip.metrics.ceiling import has_ceiling
from pcclip.metrics.protocol import Metric, Wording
from pcclip.paths import existing_file, read_text
from pcclip.processes import rank
from pcclip.reports.contact_sheet import TILE, contact_sheet, spread
from pcclip.tasks.task import Context, Task

_SHOWN = 5  # names in a message
_STRIP, _TEXT_SIZE = 8, 22  # pictures of a strip, and text that can be read at the size of a thumbnail

Level = Literal["image", "class", "class_images"]


@dataclass
class Items:
    """Items to rank: images or classes."""

    keys: list[str]
    """Table row of each item."""
    images: list[ImageFile]
    """N images."""
    item_of: Tensor
    """Index of the item of each image, (N,)."""

    def embed(self, context: Context) -> tuple[Tensor, Tensor, list[ImageFile]]:
        """Return the items with an intact image: mean embeddings (M, D), indices (M,), and an image of each."""
        embeddings, kept = context.embed(self.images)
        pictures = {int(self.item_of[index]): self.images[index] for index in reversed(kept)}
        present = torch.tensor(sorted(pictures))
        sums = embeddings.new_zeros(len(self.keys), embeddings.shape[1])
        sums.index_add_(0, self.item_of[kept].to(embeddings.device), embeddings)
        return normalize(sums[present.to(sums.device)], dim=-1), present, [pictures[i] for i in present.tolist()]


def match_items(image_set: ImageSet, table: Table, level: Level) -> Items:
    """Match table rows with images. A warning counts images (or classes) without a row, and classes without an image.

    Args:
        image_set: The images.
        table: A row for each image, or for each class.
        level: See `AttributeRanking.level`.

    Raises:
        ValueError: The table names unknown images or classes, or several images have the same key.
    """
    kind = "images" if level == "image" else "classes"
    known = [image.key for image in image_set.images] if level == "image" else image_set.classes
    if len(set(known)) < len(known):
        raise ValueError(f"{image_set.source}: several images have the same key, so rows of a table cannot name them")
    if unknown := sorted(set(table.keys) - set(known)):
        raise ValueError(
            f"{table.file}: {len(unknown)} rows name {kind} that are not in {image_set.source}: {unknown[:_SHOWN]}; it has "
            f"{known[:_SHOWN]} and so on. Name the right column with `key`, or the rows to keep with `where`"
        )
    rows = set(table.keys)
    if bare := [name for name in known if name not in rows | table.filtered]:
        rank_zero_warn(
            f"{table.file}: excluded {len(bare)} of {len(known)} {kind} without a row: {', '.join(bare[:_SHOWN])}"
        )
    names = [image.key if level == "image" or image.label is None else known[image.label] for image in image_set.images]
    images = [image for image, name in zip(image_set.images, names, strict=True) if name in rows]
    keys = [name for name in names if name in rows]
    if bare := sorted(rows - set(keys)):
        rank_zero_warn(f"{table.file}: excluded {len(bare)} classes without an image: {', '.join(bare[:_SHOWN])}")
    if level != "class":
        return Items(keys, images, torch.arange(len(keys)))
    classes = [name for name in known if name in set(keys)]
    place = {name: index for index, name in enumerate(classes)}
    return Items(classes, images, torch.tensor([place[name] for name in keys]))


@dataclass(kw_only=True)
class AttributeRanking(Task):
    """Ranking by graded attributes (`pcclip.metrics.attribute_ranking`), with pictures of the model's order."""

    kind: ClassVar[str] = "attribute_ranking"
    images: str | ImageSource
    """Images: a folder of images, of class folders or of tars, a dataset of `pcclip.datasets` by `class_path`, or a file of
    `conf/datasets`."""
    texts: str
    """YAML `{attribute: [{text, reverse}, ...]}`; `text` is true if the first image has more of the attribute. With
    `{attribute: {wordings: [...], prompts: [{more, less}, ...]}}` ordinary prompts are also measured."""
    table: str | None = None
    """CSV, JSON Lines or Parquet with a row for each image (or class) and a column for each attribute; empty or NaN is unknown.
    Unknown values, and images (or classes) without a row, are excluded with a warning. Omit it for datasets with attributes
    of their own."""
    attributes: list[str] | None = None
    """The attributes to measure; all with texts by default. An attribute with fewer than two distinct values is excluded with
    a warning."""
    key: str = "image"
    """Column of the table with the file name or sample key of the image (or the name of the class)."""
    where: dict[str, str] | None = None
    """Keep only rows of the table with these values, e.g. `{split: heldout}`."""
    not_named_in: list[str] | None = None
    """Shard folders. Rows are excluded if their key, singular or plural, occurs in the captions or texts of these folders. Only
    classes that no training text names are then ranked."""
    level: Level = "image"
    """`image`: rows are images. `class`: rows are classes, and the mean embeddings of their images are ranked.
    `class_images`: rows are classes, and each image has the value of its class, as in the paper."""
    min_gap: float | dict[str, float] = 0.0
    """Judge only pairs whose values differ by more than this: one number, or one for each attribute."""
    pair_images: int | None = None
    """Judge the pairs of this number of random images for each attribute; the number of pairs grows with its square. Rank
    correlations use all images."""
    images_per_draw: int | None = None
    """Also measure `sign_accuracy_paper` on draws of this number of images; the paper has 100."""
    draws: int = 5
    """Number of random draws of images, and of examples."""
    ceiling: bool = False
    """Also fit a supervised ranker on the same embeddings: before training, at the end of training and in `test`."""
    examples: list[int] = field(default_factory=list)
    """Also rank by axes from these numbers of examples of either end, alone and blended with the texts. Measured like the
    ceiling."""
    ceiling_images: ImageSource | None = None
    """Fit the ceiling on these images, which need all attributes, and not on folds of the measured ones."""
    stored_texts: str | None = None
    """`.npy` file of text embeddings (N, D) in the space of the images; the `.txt` next to it has text i in line i. Opposite
    texts, which `texts` lists as `{attribute: {stored: [{more, less}, ...]}}`, also give axes."""

    def prepare(self) -> None:
        if min(self.pair_images or 2, self.images_per_draw or 2, self.draws + 1) < 2:
            raise ValueError(f"{self.title}: pair_images and images_per_draw must be at least 2, draws at least 1")
        if min(self.examples, default=1) < 1 or len(set(self.examples)) < len(self.examples):
            raise ValueError(f"{self.title}: examples {self.examples}: give numbers of at least 1, each once")
        if self.ceiling_images is not None and not self.ceiling:
            raise ValueError(f"{self.title}: `ceiling_images` needs `ceiling: true`")
        texts = read_texts(self.texts)
        attributes = self.attributes or list(texts)
        if unknown := [attribute for attribute in attributes if attribute not in texts]:
            raise ValueError(f"{self.texts}: no texts for {unknown} of {self.title}; it has {sorted(texts)}")
        table = self._table()
        self._items = match_items(open_images(self.images), table, self.level)
        self._values = self._varied(table, {name: table.numbers(name, self._items.keys) for name in attributes})
        self._texts = {attribute: texts[attribute].wordings for attribute in self._values}
        self._prompts = {attribute: texts[attribute].prompts for attribute in self._values}
        self._stored_axes = self._read_stored_axes({attribute: texts[attribute].stored for attribute in self._values})
        self._fitted = self._read_fitted(list(self._values)) if self.ceiling_images is not None else None
        # items that share a row of the table
        self._groups = torch.from_numpy(np.unique(self._items.keys, return_inverse=True)[1])
        without = [name for name, numbers in self._values.items() if not has_ceiling(numbers, self._groups)]
        if without and (self.examples or (self.ceiling and self._fitted is None)):
            rank_zero_warn(
                f"{table.file}: {self.title}: too few rows for a ceiling or examples of {', '.join(without[:_SHOWN])}"
            )

    def _read_stored_axes(self, opposites: dict[str, list[Wording]]) -> dict[str, Tensor]:
        """Return attribute to the differences of its opposite texts' stored embeddings, (K, D).

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: The files do not fit, no attribute has opposite texts, or one has not exactly one finite embedding.
        """
        if self.stored_texts is None:
            return {}
        file = existing_file(self.stored_texts, "text embeddings")
        embeddings = torch.from_numpy(unit(open_array(file)))
        names = read_text(file.with_suffix(".txt"), "the stored texts").splitlines()
        if len(names) != len(embeddings):
            raise ValueError(f"{file}: {len(embeddings)} embeddings, but {len(names)} texts")
        counts = Counter(name for name, row in zip(names, embeddings, strict=True) if row.isfinite().all())
        named = {text for pairs in opposites.values() for pair in pairs for text in (pair.text, pair.reverse)}
        if not named:
            raise ValueError(
                f"{self.texts}: no attribute of {self.title} has `stored` texts, which `stored_texts` needs"
            )
        if wrong := sorted(text for text in named if counts[text] != 1):
            raise ValueError(f"{self.texts}: {file} has not exactly one embedding with a direction of {wrong[:_SHOWN]}")
        stored = dict(zip(names, embeddings, strict=True))
        return {
            attribute: torch.stack([stored[pair.text] - stored[pair.reverse] for pair in pairs])
            for attribute, pairs in opposites.items()
            if pairs
        }

    def _read_fitted(self, attributes: list[str]) -> tuple[Items, dict[str, Tensor]]:
        """Return the images to fit the ceiling on, and attribute to their values."""
        assert self.ceiling_images is not None
        if not isinstance(self.ceiling_images, AttributeSource):
            raise ValueError(f"{self.title}: the images of `ceiling_images` have no attributes of their own")
        table = self.ceiling_images.image_table()
        items = match_items(open_images(self.ceiling_images), table, "image")
        return items, {name: table.numbers(name, items.keys) for name in attributes}

    def _table(self) -> Table:
        if self.table is not None:
            table = read_table(self.table, self.key, self.where)
            if self.not_named_in is None:
                return table
            return table.without(named_in(table.keys, self.not_named_in), f"`not_named_in` of {self.title}")
        source = find_source(self.images)
        if not isinstance(source, AttributeSource):
            raise ValueError(f"{self.title}: `table` is missing; these images have no attributes of their own")
        if self.where is not None:
            raise ValueError(f"{self.title}: `where` filters the rows of a `table`; give a table, or remove `where`")
        return source.image_table() if self.level == "image" else source.class_table()

    def _varied(self, table: Table, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Warn of unknown values, and exclude the attributes with fewer than two distinct values."""
        unknown = {attribute: int(numbers.isnan().sum()) for attribute, numbers in values.items()}
        if lacking := [f'{count} of "{attribute}"' for attribute, count in unknown.items() if count]:
            shown = ", ".join(lacking[:_SHOWN]) + (f" and {len(lacking) - _SHOWN} more" if lacking[_SHOWN:] else "")
            rank_zero_warn(f"{table.file}: {self.title}: excluded {sum(unknown.values())} unknown values: {shown}")
        single = [name for name, numbers in values.items() if len(torch.unique(numbers[~numbers.isnan()])) < 2]
        shown = (
            f"{table.file}: {self.title}: {len(single)} of {len(values)} attributes have fewer than two distinct values"
        )
        if len(single) == len(values):
            raise ValueError(f"{shown}: {single[:_SHOWN]}")
        if single:
            rank_zero_warn(f"{shown} and are excluded: {', '.join(single[:_SHOWN])}")
        return {attribute: numbers for attribute, numbers in values.items() if attribute not in single}

    def measure(self, context: Context) -> Iterable[Metric]:
        items, present, _ = self._items.embed(context)
        for axes in self._stored_axes.values():
            if axes.shape[1] != items.shape[1]:
                raise ValueError(
                    f"{self.stored_texts}: embeddings of width {axes.shape[1]}, but those of the images have {items.shape[1]}"
                )
        fitted = None
        if self._fitted is not None and self.ceiling and context.final:
            images, kept, _ = self._fitted[0].embed(context)
            fitted = images, {name: numbers[kept].to(images.device) for name, numbers in self._fitted[1].items()}
        return attribute_ranking(
            context.encoder,
            items,
            {attribute: numbers[present] for attribute, numbers in self._values.items()},
            self._texts,
            prompts=self._prompts,
            groups=self._groups[present],
            min_gap=self.min_gap,
            pair_images=self.pair_images,
            images_per_draw=self.images_per_draw,
            draws=self.draws,
            ceiling=self.ceiling and context.final,
            examples=self.examples if context.final else (),
            ceiling_images=fitted,
            stored_axes={name: axes.to(items.device) for name, axes in self._stored_axes.items()},
            bootstrap=context.bootstrap,
        )

    def pictures(self, context: Context) -> dict[str, Image.Image]:
        """Draw the images of each attribute in the model's order."""
        items, present, images = self._items.embed(context)
        if rank() > 0:
            return {}
        strips = {}
        for attribute, numbers in self._values.items():
            known = (~numbers[present].isnan()).nonzero().view(-1)
            scores = attribute_scores(context.encoder, items[known.to(items.device)], self._texts[attribute]).mean(0)
            order = scores.argsort(stable=True).cpu()
            chosen = known[order[spread(len(order), _STRIP)]].tolist()
            strips[attribute] = contact_sheet(
                [decoded(images[index], TILE) for index in chosen],
                [f"{float(numbers[present[index]]):.3g}" for index in chosen],
                title=f"{self.name}: {attribute}, from least to most by the model, with the true values",
                text_size=_TEXT_SIZE,
            )
        return strips
