"""Image embeddings cached on disk, so that each image tower encodes a picture only once."""

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcclip.data.labelled import ImageFile
from pcclip.data.stored_embeddings import StoredEmbedding

DECODER = 2  # increase it whenever `pcclip.data.pictures` decodes any file to other pixels
_LOOKUP = 512  # keys a query; SQLite's own limit is 999 in old versions


class EmbeddingStore:
    """Embeddings of image files by one image tower.

    There is one SQLite file for each tower, named by the fingerprint of its weights and preprocessing. The key of a row is a
    hash of the image's path, size, modification time and `DECODER`, so a changed tower, decoder or image never gets an old
    embedding. Rows are added in transactions, so a killed run keeps the rows it added. Unreadable images have no row and are
    tried again each time.

    Args:
        folder: Folder of the file; created if necessary.
        fingerprint: `image_fingerprint` of the model.
        embed_dim: Width D.

    Raises:
        OSError: The folder is not writable, or the file is damaged.
    """

    def __init__(self, folder: str | Path, fingerprint: str, embed_dim: int) -> None:
        self.file = Path(folder) / f"{fingerprint[:32]}.sqlite"
        self.embed_dim = embed_dim
        with self._connected() as database:
            database.execute("CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, embedding BLOB)")

    def load(self, images: Sequence[ImageFile], out: Tensor) -> Tensor:
        """Copy the embeddings of known images into their rows of `out`, (N, D) float32 on the CPU.

        Returns:
            Which images are known, (N,) bool.
        """
        rows = out.numpy()
        known = torch.zeros(len(images), dtype=torch.bool)
        keys = self._keys(images)
        with self._connected() as database:
            for start in range(0, len(images), _LOOKUP):
                places: dict[bytes, list[int]] = {}
                for place, key in enumerate(keys[start : start + _LOOKUP], start):
                    if key is not None:
                        places.setdefault(key, []).append(place)
                marks = ",".join("?" * len(places))
                query = f"SELECT key, embedding FROM embeddings WHERE key IN ({marks})"
                for key, embedding in database.execute(query, list(places)):
                    known[places[key]] = True
                    rows[places[key]] = np.frombuffer(embedding, dtype="<f4", count=self.embed_dim)
                part = slice(start, start + _LOOKUP)  # embeddings that are not finite count as unknown
                known[part] &= torch.from_numpy(np.isfinite(rows[part]).all(1))
        return known

    def add(self, images: Sequence[ImageFile], embeddings: Tensor) -> None:
        """Store the finite ones of embeddings (N, D) on the CPU."""
        array = embeddings.float().numpy().astype("<f4", copy=False)
        finite = np.isfinite(array).all(1)
        rows = [
            (key, row.tobytes())
            for key, row, good in zip(self._keys(images), array, finite, strict=True)
            if good and key is not None
        ]
        with self._connected() as database:
            database.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", rows)

    def digest(self, images: Sequence[ImageFile]) -> str:
        """Return a hash of the tower and the state of the images, in this order, to name an index of their embeddings."""
        digest = hashlib.blake2b(self.file.stem.encode(), digest_size=16)
        for key in self._keys(images):
            digest.update(key or b"missing")
        return digest.hexdigest()

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Yield the database. The block is one transaction, which is rolled back on an error."""
        folder = self.file.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = f"{error.filename} is a file" if isinstance(error, FileExistsError) else error.strerror
            raise OSError(f"{folder}: cannot keep embeddings there ({reason}); choose another folder") from error
        try:
            with closing(sqlite3.connect(self.file, timeout=60)) as database, database:
                database.execute("PRAGMA synchronous = NORMAL")
                yield database
        except sqlite3.DatabaseError as error:
            raise OSError(f"{self.file}: cannot be used ({error}); delete it or choose another folder") from error

    @staticmethod
    def _keys(images: Sequence[ImageFile]) -> list[bytes | None]:
        """Return a key for each image; None for a missing file, and for a stored embedding, which needs no copy."""
        found: dict[str, str | None] = {}
        keys: list[bytes | None] = []
        for image in images:
            if image.path not in found:
                found[image.path] = _file_state(image.path)
            state = found[image.path]
            text = f"{state} {image.offset} {image.size} {DECODER}"
            keys.append(
                None
                if state is None or isinstance(image, StoredEmbedding)
                else hashlib.blake2b(text.encode(), digest_size=16).digest()
            )
        return keys


def _file_state(path: str) -> str | None:
    try:
        stat = os.stat(path)  # noqa: PTH116 (a Path for each of a million files takes longer than the call)
    except OSError:
        return None
    # Different runs reach the same pictures through links.
    return f"{os.path.realpath(path)} {stat.st_size} {stat.st_mtime_ns}"
