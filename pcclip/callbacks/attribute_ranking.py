"""Attribute ranking each epoch, on any number of image sets, with a picture of each attribute's order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.callbacks.embeddings import evaluating
from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.data.labelled import ImageFile, ImageSet, decoded
from pcclip.data.picture_files import save_png
from pcclip.data.shard_index import named_in
from pcclip.datasets.sources import AttributeSource, ImageSource, open_images
from pcclip.datasets.tables import Table, read_prompts, read_table, read_texts
from pcclip.metrics.attribute_ranking import attribute_ranking, attribute_scores, check_draws
from pcclip.metrics.ceiling import FOLDS, enough_of_either
from pcclip.metrics.protocol import Result, Wording
from pcclip.reports.contact_sheet import TILE, contact_sheet, spread_over_order
from pcclip.run_folder import run_folder


@dataclass
class AttributeSet:
    """Images with graded attributes, and texts that speak of them.

    Attributes:
        images: Folder of images, of class folders, or of tars, or a dataset (`pcclip.datasets.sources.ImageSource`).
        table: CSV or JSON Lines with a row for each image (or class) and a column for each attribute; empty or NaN is
            unknown. A warning counts unknown values, and images (or classes) without a row, which are left out. No table is
            given for datasets that bring their own attributes.
        texts: YAML `{attribute: [{text, reverse}, ...]}`; `text` is true when the first image has more of it. With
            `{attribute: {wordings: [...], prompts: [{more, less}, ...]}}` ordinary prompts are measured beside them.
        attributes: The attributes to measure; all that have texts, if left out. One that has less than two values among
            the images is left out with a warning, unless none is left.
        key: Column of the table with the image's file name or sample key (or the class's name).
        where: Keep only rows of the table with these values, e.g. `{split: heldout}`.
        not_named_in: Shard folders: leave out rows whose key, singular or plural, occurs in their captions or texts. So
            only classes are ranked that no training text names.
        level: `image`: rows are images. `class`: rows are classes, and the mean embeddings of their images are ranked.
            `class_images`: rows are classes, and each image is ranked by its class's value, as in the paper.
        min_gap: Judge only pairs whose values differ by more than this; one number, or one for each attribute.
        pair_images: Judge the pairs of only so many images of each attribute (drawn by the callback's seed), since pairs grow
            with their square. Rank correlations are over all images all the same.
        images_per_draw: Also measure `sign_accuracy_paper`, on draws of so many images; the paper has 100.
        draws: The number of these draws.
        ceiling: Also fit a supervised ranker on the same embeddings: before training, at its end and in `test`, not after
            each epoch.
    """

    images: str | ImageSource
    texts: str
    table: str | None = None
    attributes: list[str] | None = None
    key: str = "image"
    where: dict[str, str] | None = None
    not_named_in: list[str] | None = None
    level: Literal["image", "class", "class_images"] = "image"
    min_gap: float | dict[str, float] = 0.0
    pair_images: int | None = None
    images_per_draw: int | None = None
    draws: int = 5
    ceiling: bool = False


@dataclass
class _Prepared:
    """Items are images or classes. `values` has a number for each item, `groups` its row of the table, `item_of` the item of
    each image."""

    settings: AttributeSet
    texts: dict[str, list[Wording]]
    prompts: dict[str, list[Wording]]
    images: list[ImageFile]
    item_of: Tensor
    values: dict[str, Tensor]
    groups: Tensor

    @property
    def items(self) -> int:
        return int(self.item_of.max()) + 1


class AttributeRanking(EvaluationCallback):
    """Measures attribute ranking (`pcclip.metrics.attribute_ranking`) and draws the order that the model finds.

    The pictures go to TensorBoard as `ranked/<set>/<attribute>`, and at the end of training to
    `ranked_<set>_<attribute>.png` in the run's folder.

    Args:
        sets: Name to attribute set; results are named `attribute_ranking/<name>/<attribute>/<metric>`.
        **settings: When and how to evaluate; see `EvaluationCallback`.
    """

    def __init__(
        self,
        sets: dict[str, AttributeSet],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.sets = sets
        self._prepared: dict[str, _Prepared] = {}

    def prepare(self) -> None:
        """Read the tables and texts, and match them with the images.

        Raises:
            FileNotFoundError: A file, or an image that the table names, is missing.
            ValueError: Anything in them that does not fit together.
        """
        self._prepared = {name: _prepare(name, settings) for name, settings in self.sets.items()}

    def results(self, trainer: Trainer, pl_module: LightningModule, resamples: int) -> list[Result]:
        """All metrics of all attributes of all sets."""
        results = []
        for name, prepared in self._prepared.items():
            items, present, _ = self._items(trainer, pl_module, name, prepared)
            results += attribute_ranking(
                self.encoder(pl_module),
                items,
                {attribute: numbers[present] for attribute, numbers in prepared.values.items()},
                prepared.texts,
                prompts=prepared.prompts,
                groups=prepared.groups[present],
                subset=name,
                min_gap=prepared.settings.min_gap,
                pair_images=prepared.settings.pair_images,
                images_per_draw=prepared.settings.images_per_draw,
                draws=prepared.settings.draws,
                ceiling=prepared.settings.ceiling and resamples > 0,
                resamples=resamples,
                seed=self.seed,
            )
        return results

    def show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the pictures into TensorBoard."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not loggers:
            return
        for (name, attribute), strip in self._strips(trainer, pl_module).items():
            pixels = torch.from_numpy(np.array(strip)).permute(2, 0, 1)
            step = max(0, trainer.global_step - 1)  # where Lightning puts the epoch's scalars
            for logger in loggers:
                logger.experiment.add_image(f"ranked/{name}/{attribute}", pixels, step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the pictures beside the logs."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # declared nowhere in Trainer
            return
        folder = run_folder(trainer)
        with evaluating(pl_module):
            strips = self._strips(trainer, pl_module)
        if trainer.is_global_zero:
            folder.mkdir(parents=True, exist_ok=True)
            for (name, attribute), strip in strips.items():
                save_png(strip, folder / f"ranked_{name}_{attribute}.png")

    def _strips(self, trainer: Trainer, pl_module: LightningModule) -> dict[tuple[str, str], Image.Image]:
        """The picture of each set and attribute; drawn on rank 0 only, but every rank must call this."""
        strips = {}
        for name, prepared in self._prepared.items():
            items, present, pictures = self._items(trainer, pl_module, name, prepared)
            if not trainer.is_global_zero:
                continue
            for attribute, numbers in prepared.values.items():
                known = (~numbers[present].isnan()).nonzero().view(-1)
                wordings = prepared.texts[attribute]
                scores = attribute_scores(self.encoder(pl_module), items[known.to(items.device)], wordings).mean(0)
                chosen = known[spread_over_order(scores).cpu()].tolist()
                strips[name, attribute] = contact_sheet(
                    [decoded(pictures[index], TILE) for index in chosen],
                    [f"{float(numbers[present[index]]):.3g}" for index in chosen],
                    title=f"{name}: {attribute}, least to most as the model ranks them, true values below",
                )
        return strips

    def _items(
        self, trainer: Trainer, pl_module: LightningModule, name: str, prepared: _Prepared
    ) -> tuple[Tensor, Tensor, list[ImageFile]]:
        """Embeddings of the items that have an intact image (M, D), their indices (M,), and an image of each."""
        embeddings, kept = self.embed(trainer, pl_module, prepared.images, name)
        pictures = {int(prepared.item_of[index]): prepared.images[index] for index in reversed(kept)}
        present = torch.tensor(sorted(pictures))
        shown = [pictures[item] for item in sorted(pictures)]
        sums = embeddings.new_zeros(prepared.items, embeddings.shape[1])
        sums.index_add_(0, prepared.item_of[kept].to(embeddings.device), embeddings)
        return normalize(sums[present.to(sums.device)], dim=-1), present, shown


def _prepare(name: str, settings: AttributeSet) -> _Prepared:
    try:
        check_draws(settings.pair_images, settings.images_per_draw, settings.draws)
    except ValueError as error:
        raise ValueError(f"attribute set {name}: {error}") from error
    texts, prompts = read_texts(settings.texts), read_prompts(settings.texts)
    attributes = settings.attributes or list(texts)
    if unknown := [attribute for attribute in attributes if attribute not in texts]:
        raise ValueError(f"{settings.texts}: no texts for {unknown}, which set {name} asks for; it has {sorted(texts)}")
    table = _table(name, settings)
    image_set = open_images(settings.images)
    match = {"image": _match_images, "class": _match_classes, "class_images": _match_class_images}[settings.level]
    keys, images, item_of = match(image_set, table)
    values = {attribute: table.numbers(attribute, keys) for attribute in attributes}
    _tell_exclusions(name, settings, image_set, table, values)
    values = _judgeable(name, table, values)
    groups = torch.from_numpy(np.unique(keys, return_inverse=True)[1])  # items that share a row of the table
    for attribute, numbers in values.items():
        known = len(torch.unique(groups[~numbers.isnan()]))
        if settings.ceiling and known < FOLDS:
            raise ValueError(
                f'{table.file}: attribute "{attribute}" of set {name} has values of {known} rows; the ceiling is '
                f"cross-validated in {FOLDS} folds, so turn it off"
            )
        if settings.ceiling and not enough_of_either(numbers, groups):
            rank_zero_warn(
                f'{table.file}: attribute "{attribute}" of set {name} has too few rows of one value for a ceiling'
            )
    chosen = {attribute: texts[attribute] for attribute in values}
    return _Prepared(settings, chosen, prompts, images, item_of, values, groups)


def _table(name: str, settings: AttributeSet) -> Table:
    if settings.table is not None:
        table = read_table(settings.table, settings.key, settings.where)
        if settings.not_named_in is None:
            return table
        return table.without(named_in(table.rows, settings.not_named_in), f"`not_named_in` of attribute set {name}")
    if not isinstance(settings.images, AttributeSource):
        raise ValueError(f"attribute set {name}: `table` is missing; these images bring no attributes of their own")
    if settings.where is not None:
        raise ValueError(f"attribute set {name}: `where` filters the rows of a `table`; give one, or leave it out")
    return settings.images.image_table() if settings.level == "image" else settings.images.class_table()


def _tell_exclusions(
    name: str, settings: AttributeSet, image_set: ImageSet, table: Table, values: dict[str, Tensor]
) -> None:
    """One warning of the pictures (or classes) that no row names, and of each attribute's items without a value."""
    told = []
    rows = table.rows.keys() | table.filtered  # what `where` leaves out is left out on purpose
    by_image = settings.level == "image"
    named, kind = (
        ([image.key for image in image_set.images], "pictures") if by_image else (image_set.classes, "classes")
    )
    if bare := [key for key in named if key not in rows]:
        told.append(f"{len(bare)} of {len(named)} {kind} have no row and are left out ({', '.join(bare[:5])})")
    items = "classes" if settings.level == "class" else "pictures"
    unknown = {attribute: int(numbers.isnan().sum()) for attribute, numbers in values.items()}
    lacking = [
        f'{count} of {len(values[attribute])} {items} have no value of "{attribute}" and no part in it'
        for attribute, count in unknown.items()
        if count
    ]
    told += lacking[:5]
    if len(lacking) > 5:
        told.append(f"and so on for {len(lacking) - 5} attributes more, {sum(unknown.values())} values in all")
    if told:
        rank_zero_warn(f"{table.file}: set {name}: {'; '.join(told)}")


def _judgeable(name: str, table: Table, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The attributes that differ between some of the images."""
    single = [attribute for attribute, numbers in values.items() if len(set(numbers[~numbers.isnan()].tolist())) < 2]
    if len(single) == len(values):
        raise ValueError(f"{table.file}: attributes {single[:5]} of set {name} have fewer than two distinct values")
    if single:
        rank_zero_warn(
            f"{table.file}: {len(single)} of {len(values)} attributes of set {name} have fewer than two distinct values and "
            f"are left out: {', '.join(single[:5])}"
        )
    return {attribute: numbers for attribute, numbers in values.items() if attribute not in single}


def _match_images(image_set: ImageSet, table: Table) -> tuple[list[str], list[ImageFile], Tensor]:
    by_key = {image.key: image for image in image_set.images}
    if len(by_key) < len(image_set.images):
        raise ValueError(f"{image_set.source}: several images have the same key, so rows of a table cannot name them")
    if missing := [key for key in table.rows if key not in by_key]:
        raise FileNotFoundError(
            f"{table.file}: {len(missing)} rows name images that are not in {image_set.source}: {missing[:5]}; "
            "remove the rows, or name the right column with `key`"
        )
    keys = [image.key for image in image_set.images if image.key in table.rows]
    return keys, [by_key[key] for key in keys], torch.arange(len(keys))


def _match_classes(image_set: ImageSet, table: Table) -> tuple[list[str], list[ImageFile], Tensor]:
    if unknown := [key for key in table.rows if key not in image_set.classes]:
        raise ValueError(
            f"{table.file}: unknown classes {unknown[:5]}; {image_set.source} has {image_set.classes[:5]} and so on "
            f"({len(image_set.classes)}). Name the right column with `key`, or the rows to keep with `where`"
        )
    with_images = {image.label for image in image_set.images}
    keys = [name for label, name in enumerate(image_set.classes) if name in table.rows and label in with_images]
    if len(keys) < len(table.rows):
        bare = [name for name in table.rows if name not in keys]
        rank_zero_warn(f"{image_set.source}: {len(bare)} classes have no image and are left out: {', '.join(bare[:5])}")
    item = {image_set.classes.index(key): position for position, key in enumerate(keys)}
    images = [image for image in image_set.images if image.label in item]
    return keys, images, torch.tensor([item[image.label] for image in images if image.label is not None])


def _match_class_images(image_set: ImageSet, table: Table) -> tuple[list[str], list[ImageFile], Tensor]:
    classes, images, class_of = _match_classes(image_set, table)
    return [classes[place] for place in class_of.tolist()], images, torch.arange(len(images))
