"""Pack the rows and images of groups into one shard."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_prep.files import EMBEDDING_ROW, Row, image_path
from data_prep.group_index import GroupRows
from data_prep.images import StoredImage, encode_image, read_bytes
from data_prep.line_index import Lines
from data_prep.partial import FinishedShard, PartialFolder, embeddings_payload
from pcclip.data.format import EMBEDDINGS_EXTENSION
from pcclip.data.pictures import UnreadableImageError
from pcclip.data.record import GroupRecord, PairRecord
from pcclip.data.stored_embeddings import read_row, unit


@dataclass(frozen=True)
class Packing:
    """Input files, output folder, image size and JPEG quality; and the width D of stored embeddings, None for images."""

    captions: list[Path]
    differences: list[Path]
    partial: PartialFolder
    resize: int | None
    quality: int
    width: int | None = None

    def write_shard(self, name: str, first_key: int, groups: Sequence[GroupRows]) -> FinishedShard:
        """Write a shard.

        Args:
            name: The shard's file name.
            first_key: Key of its first group. The keys of the others follow.
            groups: Its groups.
        """
        with self.partial.shard(name) as file, Lines(self.captions) as captions, Lines(self.differences) as differences:
            for key, group in enumerate(groups, start=first_key):
                sources = [captions.at(place) for place in group.images]
                rows = [differences.at(place)[1] for place in group.differences]
                record, images = self.pack(sources, rows, file.written.unreadable)
                if images:
                    members = {f"{place:02d}.{image.extension}": image.payload for place, image in enumerate(images)}
                    if self.width is not None:
                        vectors = [np.frombuffer(image.payload, np.float32) for image in images]
                        members = {EMBEDDINGS_EXTENSION: embeddings_payload(np.stack(vectors))}
                    members["json"] = json.dumps(record, ensure_ascii=False).encode()
                    file.add(f"{key:08d}", members, images=len(images), pairs=len(record["pairs"]))
        return file.written

    def pack(
        self, sources: Sequence[tuple[Path, Row]], rows: Sequence[Row], unreadable: dict[str, str]
    ) -> tuple[GroupRecord, list[StoredImage]]:
        """Return the record and the images of a group, without images that cannot be read or have changed, and their pairs.

        Args:
            sources: Captions file and row of each image.
            rows: Its rows of differences, which determine the order of the images.
            unreadable: Receives the reason of each image that is left out, by id.
        """
        found = {row["id"]: (file, row) for file, row in sources}
        rows = sorted(rows, key=lambda row: row["pair_id"] if "key" in row else "")
        stored: dict[str, StoredImage] = {}
        for name in dict.fromkeys(row[side] for row in rows for side in ("first", "second")) or found:
            file, row = found[name]
            try:
                stored[name] = self._stored(file, row)
            except UnreadableImageError as error:
                unreadable[name] = f"{row['file']}: {error.reason}"
        places = {name: place for place, name in enumerate(stored)}
        pairs: list[PairRecord] = []
        for row in rows:
            if row["first"] in places and row["second"] in places:
                first, second = places[row["first"]], places[row["second"]]
                pairs.append({"first": first, "second": second, "text": row["text"]})
                pairs.append({"first": second, "second": first, "text": row["reverse_text"]})
        images = [found[name][1] for name in stored]
        record: GroupRecord = {
            "images": [{"id": row["id"], "captions": row["captions"]} for row in images],
            "pairs": pairs,
        }
        return record, list(stored.values())

    def _stored(self, captions: Path, row: Row) -> StoredImage:
        path = image_path(captions, row)
        if (EMBEDDING_ROW in row) != (self.width is not None):
            raise ValueError(
                f"{captions}: image {row['id']!r}: stored embeddings and pictures cannot be mixed; make two shard folders"
            )
        if self.width is None:
            payload = read_bytes(path)
            _check_unchanged(path, row, payload)
            return encode_image(payload, row["file"], self.resize, self.quality)
        vector = read_row(path, row[EMBEDDING_ROW])
        _check_unchanged(path, row, vector.tobytes())
        if len(vector) != self.width:
            raise ValueError(f"{path}: embeddings of width {len(vector)}, those of other files have width {self.width}")
        return StoredImage(unit(vector).tobytes(), EMBEDDINGS_EXTENSION)


def _check_unchanged(path: Path, row: Row, payload: bytes) -> None:
    if row.get("sha256") and hashlib.sha256(payload).hexdigest() != row["sha256"]:
        raise UnreadableImageError(str(path), "has changed since the captions step read it")
