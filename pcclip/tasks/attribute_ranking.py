"""Ranking of images or classes by graded attributes, with a picture of each attribute's order."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor

from pcclip.data.labelled import ImageSet, decoded
from pcclip.data.shard_index import named_in
from pcclip.datasets.sources import AttributeSource, ImageSource, find_source, open_images
from pcclip.datasets.tables import Table, read_table
from pcclip.datasets.texts import read_texts
from pcclip.metrics.attribute_ranking import attribute_ranking, attribute_scores
from pcclip.metrics.ceiling import FOLDS, enough_of_either
from pcclip.metrics.protocol import Metric
from pcclip.processes import rank
from pcclip.reports.contact_sheet import TILE, contact_sheet, spread_over_order
from pcclip.tasks.attribute_items import Level, match_items
from pcclip.tasks.task import Context, Task

_SHOWN = 5  # names in a warning


@dataclass(kw_only=True)
class AttributeRanking(Task):
    """Ranking by graded attributes (`pcclip.metrics.attribute_ranking`), with a picture of the order that the model finds."""

    kind: ClassVar[str] = "attribute_ranking"
    name: str
    """Second part of the names of its results; the attribute is the third."""
    images: str | ImageSource
    """Folder of images, of class folders, or of tars, or a dataset: of `pcclip.datasets` by
    `class_path`, or a file of `conf/datasets`."""
    texts: str
    """YAML `{attribute: [{text, reverse}, ...]}`; `text` is true when the first image has more of it. With
    `{attribute: {wordings: [...], prompts: [{more, less}, ...]}}` ordinary prompts are measured as well."""
    table: str | None = None
    """CSV or JSON Lines with a row for each image (or class) and a column for each attribute; empty or NaN is unknown. A
    warning counts unknown values, and images (or classes) without a row, which are excluded. Leave it out for datasets with
    attributes of their own."""
    attributes: list[str] | None = None
    """The attributes to measure; all that have texts by default. One with fewer than two values among the images is excluded
    with a warning."""
    key: str = "image"
    """Column of the table with the image's file name or sample key (or the class's name)."""
    where: dict[str, str] | None = None
    """Keep only rows of the table with these values, e.g. `{split: heldout}`."""
    not_named_in: list[str] | None = None
    """Shard folders: exclude rows if their key, singular or plural, occurs in captions or texts of these. So only classes
    are ranked that no training text names."""
    level: Level = "image"
    """`image`: rows are images. `class`: rows are classes, and the mean embeddings of their images are ranked.
    `class_images`: rows are classes, and each image is ranked by its class's value, as in the paper."""
    min_gap: float | dict[str, float] = 0.0
    """Judge only pairs whose values differ by more than this; one number, or one for each attribute."""
    pair_images: int | None = None
    """Number of random images of each attribute whose pairs are judged, since pairs grow with its square. Rank correlations
    use all images."""
    images_per_draw: int | None = None
    """Images in a draw of `sign_accuracy_paper`; the paper has 100."""
    draws: int = 5
    """The number of these draws."""
    ceiling: bool = False
    """Also fit a supervised ranker on the same embeddings: before training, at its end and in `test`."""

    def prepare(self) -> None:
        """Read the table and the texts, and match them with the images."""
        for name, least in (("pair_images", 2), ("images_per_draw", 2), ("draws", 1)):
            if (number := getattr(self, name)) is not None and number < least:
                raise ValueError(f"{self.title}: {name}={number}; must be at least {least}")
        texts = read_texts(self.texts)
        attributes = self.attributes or list(texts)
        if unknown := [attribute for attribute in attributes if attribute not in texts]:
            raise ValueError(f"{self.texts}: no texts for {unknown} of {self.title}; it has {sorted(texts)}")
        table, image_set = self._table(), open_images(self.images)
        self._items = match_items(image_set, table, self.level)
        values = {attribute: table.numbers(attribute, self._items.keys) for attribute in attributes}
        self._warn_of_exclusions(image_set, table, values)
        self._values = self._varied(table, values)
        self._texts = {attribute: texts[attribute].wordings for attribute in self._values}
        self._prompts = {attribute: texts[attribute].prompts for attribute in self._values}
        # items that share a row of the table
        self._groups = torch.from_numpy(np.unique(self._items.keys, return_inverse=True)[1])
        if self.ceiling:
            self._check_ceiling(table)

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
            raise ValueError(f"{self.title}: `where` filters the rows of a `table`; give one, or leave it out")
        return source.image_table() if self.level == "image" else source.class_table()

    def _warn_of_exclusions(self, image_set: ImageSet, table: Table, values: dict[str, Tensor]) -> None:
        """Warn once of the images (or classes) without a row, and of items without a value of an attribute."""
        by_image = self.level == "image"
        named = [image.key for image in image_set.images] if by_image else image_set.classes
        kind = "images" if by_image else "classes"
        found = []
        # rows that `where` excludes are excluded on purpose
        if bare := [key for key in named if key not in table.cells.index and key not in table.filtered]:
            found.append(f"{len(bare)} of {len(named)} {kind} have no row ({', '.join(bare[:_SHOWN])})")
        unknown = {attribute: int(numbers.isnan().sum()) for attribute, numbers in values.items()}
        lacking = [f'{count} of "{attribute}"' for attribute, count in unknown.items() if count]
        if lacking:
            shown = ", ".join(lacking[:_SHOWN]) + (f" and {len(lacking) - _SHOWN} more" if lacking[_SHOWN:] else "")
            found.append(f"{sum(unknown.values())} values are unknown: {shown}")
        if found:
            rank_zero_warn(f"{table.file}: {self.title}: left out: {'; '.join(found)}")

    def _varied(self, table: Table, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Exclude the attributes with fewer than two values."""
        single = [name for name, numbers in values.items() if len(torch.unique(numbers[~numbers.isnan()])) < 2]
        shown = f"{table.file}: {len(single)} of {len(values)} attributes of {self.title} have fewer than two distinct values"
        if len(single) == len(values):
            raise ValueError(f"{shown}: {single[:_SHOWN]}")
        if single:
            rank_zero_warn(f"{shown} and are left out: {', '.join(single[:_SHOWN])}")
        return {attribute: numbers for attribute, numbers in values.items() if attribute not in single}

    def _check_ceiling(self, table: Table) -> None:
        for attribute, numbers in self._values.items():
            known = len(torch.unique(self._groups[~numbers.isnan()]))
            where = f'{table.file}: attribute "{attribute}" of {self.title}'
            if known < FOLDS:
                raise ValueError(
                    f"{where} has values of {known} rows; the ceiling is cross-validated in {FOLDS} folds, so turn it off"
                )
            if not enough_of_either(numbers, self._groups):
                rank_zero_warn(f"{where} has too few rows of one value for a ceiling")

    def measure(self, context: Context) -> Iterable[Metric]:
        """Measure all attributes of the items that have an intact image."""
        items, present, _ = self._items.embed(*context.embed(self._items.images))
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
            bootstrap=context.bootstrap,
        )

    def pictures(self, context: Context) -> dict[str, Image.Image]:
        """Draw the order of each attribute."""
        items, present, images = self._items.embed(*context.embed(self._items.images))
        if rank() > 0:
            return {}
        strips = {}
        for attribute, numbers in self._values.items():
            known = (~numbers[present].isnan()).nonzero().view(-1)
            scores = attribute_scores(context.encoder, items[known.to(items.device)], self._texts[attribute]).mean(0)
            chosen = known[spread_over_order(scores).cpu()].tolist()
            strips[attribute] = contact_sheet(
                [decoded(images[index], TILE) for index in chosen],
                [f"{float(numbers[present[index]]):.3g}" for index in chosen],
                title=f"{self.name}: {attribute}, least to most as the model ranks them, true values below",
            )
        return strips
