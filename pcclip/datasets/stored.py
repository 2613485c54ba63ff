"""Stored image embeddings as evaluation images: `.npy` files, and a table with a row for each embedding."""

from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from pcclip.data.labelled import ImageSet
from pcclip.data.stored_embeddings import count_other_lengths, open_embeddings, stored_images
from pcclip.datasets.sources import AttributeSource
from pcclip.datasets.tables import Table, read_table


@dataclass(frozen=True)
class StoredEmbeddings(AttributeSource):
    """Embeddings by the model's own image tower, or by the tower that its text tower was trained with.

    Embeddings of another length than 1 are normalised, with a warning. Those that are not finite are excluded, with a warning.
    """

    embeddings: str
    """`.npy` file, or a pattern such as `img_emb_*.npy`, of arrays (N, D)."""
    table: str
    """CSV, JSON Lines or Parquet. Row i describes embedding i. Its columns are also the attributes of `AttributeRanking`."""
    key: str = "id"
    """Column of the table with the ids of the images, each once."""
    label: str | None = None
    """Column of the table with the name of the image's class; empty for images without a class. None: no classes."""
    where: dict[str, str] | None = None
    """Use only rows of the table with these values, e.g. `{split: test}`."""

    def read(self) -> ImageSet:
        arrays, table = open_embeddings(self.embeddings, "stored embeddings"), read_table(self.table, self.key)
        count = sum(len(array) for _, array in arrays)
        if count != len(table.keys):
            raise ValueError(
                f"{self.table}: {len(table.keys)} rows, but {self.embeddings} has {count} embeddings; row i must describe "
                "embedding i"
            )
        if lengths := sum(count_other_lengths(array) for _, array in arrays):
            rank_zero_warn(f"{self.embeddings}: {lengths} of {count} embeddings are not of unit length; normalised")
        chosen = set(read_table(self.table, self.key, self.where).keys)
        names = table.texts(self.label) if self.label is not None else {}
        classes = sorted({names[key] for key in chosen if names.get(key)})
        place = {name: label for label, name in enumerate(classes)}
        labels = [place.get(names.get(key, "")) for key in table.keys]
        images = [image for image in stored_images(arrays, table.keys, labels) if image.key in chosen]
        return ImageSet(Path(self.embeddings), [*images], classes)

    def image_table(self) -> Table:
        return read_table(self.table, self.key, self.where)

    def class_table(self) -> Table:
        raise ValueError(
            f"{self.table}: describes images, not classes; use `level: image`, or give a `table` of the classes"
        )
