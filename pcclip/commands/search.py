"""`pcclip search`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse.typing import PositiveInt

from pcclip.commands.command import PictureCommand
from pcclip.paths import existing_file

if TYPE_CHECKING:
    from PIL import Image

    from pcclip.tools.gallery import Gallery
    from pcclip.tools.inference import InferenceModel
    from pcclip.tools.neighbours import Found, Index


@dataclass(kw_only=True)
class Search(PictureCommand):
    """Find pictures like one, but different as a text says: those nearest to `image + lambda * difference`.

    pcclip search PICTURES --image Q.jpg --text "the first picture is at night, the second by day"

    The picture that is wanted is called the first, the one given the second.
    """

    image: str
    """The picture to start from."""
    text: str
    """How the wanted picture, the first, differs from it."""
    reverse: str | None = None
    """The opposite text, which is subtracted."""
    lambdas: list[float] = field(default_factory=lambda: [0.0, 0.5, 1.0])
    """Factors of the difference."""
    count: PositiveInt = 8
    """Pictures for each lambda."""
    engine: Literal["exact", "faiss"] = "exact"
    """faiss, of the extra `search`, is approximate and for millions of pictures."""
    output: str = "found.csv"
    """CSV file; the sheet is next to it as .png."""

    def run(self) -> None:
        """Search, and write what was found."""
        from pcclip.data.labelled import ImageFile
        from pcclip.tools.attributes import wordings
        from pcclip.tools.output import write_outputs
        from pcclip.tools.picture_sources import find_pictures

        output = self.new_output()
        existing_file(self.image, "picture of --image")
        pictures = find_pictures(self.pictures)
        model = self.load_model()
        from pcclip.tools.neighbours import search

        start = model.embed_pictures([ImageFile(self.image, self.image)])
        text = model.embed_texts([self.text])[0]
        axis = text if self.reverse is None else model.axis(wordings(self.text, self.reverse))
        shift = model.shift(axis).cpu()
        gallery = self.embed(model, pictures)
        index = self._index(model, gallery)
        image = start.embeddings[0]
        found = {
            factor: search(gallery, index, image, shift, factor=factor, count=self.count, exclude=[self.image])
            for factor in dict.fromkeys(self.lambdas)
        }
        table = (
            (f"{factor:g}", rank, row.path, f"{row.cosine:.6f}")
            for factor, rows in found.items()
            for rank, row in enumerate(rows, start=1)
        )
        drawn = write_outputs(
            output, ("lambda", "rank", "path", "cosine"), table, self._sheet(start, gallery, found), gallery
        )
        for factor, rows in found.items():
            print(f"lambda {factor:g}: " + ", ".join(Path(row.path).name for row in rows[:4]))
        print(f"written to {output} and {drawn}")

    def _index(self, model: "InferenceModel", gallery: "Gallery") -> "Index":
        from pcclip.data.embedding_store import EmbeddingStore
        from pcclip.data.labelled import ImageFile
        from pcclip.tools.neighbours import exact_index, faiss_index
        from pcclip.tools.output import need

        if self.engine == "exact":
            return exact_index(gallery)
        need("faiss", "search")
        if self.cache is None:
            return faiss_index(gallery)
        files = [picture for picture in gallery.pictures if isinstance(picture, ImageFile)]
        digest = EmbeddingStore(self.cache, model.clip.image_fingerprint, model.clip.embed_dim).digest(files)
        return faiss_index(gallery, Path(self.cache) / f"{digest}.faiss")

    def _sheet(self, start: "Gallery", gallery: "Gallery", found: "dict[float, list[Found]]") -> "Image.Image":
        """Draw a row for each lambda: the picture to start from, and what was found."""
        from pcclip.reports.contact_sheet import TILE, contact_sheet

        pictures, labels = [], []
        query = start.pick(0, TILE)
        for factor, rows in found.items():
            empty = self.count - len(rows)
            pictures += [query, *(gallery.pick(row.index, TILE) for row in rows), *[None] * empty]
            labels += [f"lambda {factor:g}", *(f"{row.cosine:.3f}" for row in rows), *[""] * empty]
        title = f"the picture on the left, and lambda x: {self.text}"
        return contact_sheet(pictures, labels, title, columns=self.count + 1)
