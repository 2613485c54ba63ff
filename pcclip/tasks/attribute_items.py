"""Which images or classes an attribute ranking orders: rows of a table matched with images."""

from dataclasses import dataclass
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.functional import normalize

from pcclip.data.labelled import ImageFile, ImageSet
from pcclip.datasets.tables import Table

Level = Literal["image", "class", "class_images"]


@dataclass
class Items:
    """Items to rank: images or classes."""

    keys: list[str]
    """Row of the table of each item."""
    images: list[ImageFile]
    """N images."""
    item_of: Tensor
    """Item of each image, (N,)."""

    def embed(self, embeddings: Tensor, kept: list[int]) -> tuple[Tensor, Tensor, list[ImageFile]]:
        """Return mean embeddings of the items that have an intact image (M, D), their indices (M,), and an image of each.

        Args:
            embeddings: Unit embeddings of the intact images.
            kept: Indices of these into `images`.
        """
        pictures = {int(self.item_of[index]): self.images[index] for index in reversed(kept)}
        present = torch.tensor(sorted(pictures))
        sums = embeddings.new_zeros(len(self.keys), embeddings.shape[1])
        sums.index_add_(0, self.item_of[kept].to(embeddings.device), embeddings)
        return normalize(sums[present.to(sums.device)], dim=-1), present, [pictures[i] for i in present.tolist()]


def match_items(image_set: ImageSet, table: Table, level: Level) -> Items:
    """Match the rows of a table with images.

    Args:
        image_set: The images.
        table: A row for each image, or for each class.
        level: `image`: items are images with a row. `class`: items are classes with a row. `class_images`: items are the
            images of classes with a row.

    Raises:
        FileNotFoundError: The table names images that are not there.
        ValueError: The table names unknown classes, or several images have the same key.
    """
    if level == "image":
        return _match_images(image_set, table)
    if unknown := [key for key in table.keys if key not in image_set.classes]:
        raise ValueError(
            f"{table.file}: unknown classes {unknown[:5]}; {image_set.source} has {image_set.classes[:5]} and so on "
            f"({len(image_set.classes)}). Name the right column with `key`, or the rows to keep with `where`"
        )
    with_images = {image.label for image in image_set.images}
    keys = [name for label, name in enumerate(image_set.classes) if name in table.cells.index and label in with_images]
    if bare := [name for name in table.keys if name not in keys]:
        rank_zero_warn(f"{image_set.source}: {len(bare)} classes have no image and are left out: {', '.join(bare[:5])}")
    item = {image_set.classes.index(key): position for position, key in enumerate(keys)}
    images = [image for image in image_set.images if image.label in item]
    item_of = torch.tensor([item[image.label] for image in images if image.label is not None])
    if level == "class":
        return Items(keys, images, item_of)
    return Items([keys[place] for place in item_of.tolist()], images, torch.arange(len(images)))


def _match_images(image_set: ImageSet, table: Table) -> Items:
    by_key = {image.key: image for image in image_set.images}
    if len(by_key) < len(image_set.images):
        raise ValueError(f"{image_set.source}: several images have the same key, so rows of a table cannot name them")
    if missing := [key for key in table.keys if key not in by_key]:
        raise FileNotFoundError(
            f"{table.file}: {len(missing)} rows name images that are not in {image_set.source}: {missing[:5]}; "
            "remove the rows, or name the right column with `key`"
        )
    keys = [image.key for image in image_set.images if image.key in table.cells.index]
    return Items(keys, [by_key[key] for key in keys], torch.arange(len(keys)))
