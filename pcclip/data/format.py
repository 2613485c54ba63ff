"""The shard format: content of a shard folder, and reading and checking of its `dataset.json`.

One webdataset sample is one group of G images and the difference texts of ordered pairs inside it::

    00000042.00.jpg ... 00000042.15.jpg    the images (or, in embedded shards, 00000042.embeddings.npy, (G, D) float16)
    00000042.json                          {"images": [{"id", "captions"}], "pairs": [{"first", "second", "text"}]}

`dataset.json` next to the shards has the format version, the number of groups in each shard and, for embedded shards, the
image tower that made them. So a reader can refuse a mismatch before training starts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from pcclip.atomic import atomic_text
from pcclip.paths import existing_folder

if TYPE_CHECKING:
    from pcclip.model.clip import DifferenceCLIP

FORMAT_VERSION: Literal[1] = 1
DATASET_FILE = "dataset.json"
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
EMBEDDINGS_EXTENSION = "embeddings.npy"
EXTERNAL = "external:"  # prefix of the label of an image tower that is not at hand
Count = Annotated[int, Field(ge=0)]
STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass
class ShardInfo:
    """One shard: file name, number of groups, size in bytes and sha256."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    name: str
    groups: Count
    bytes: Count
    sha256: str


@dataclass
class EmbeddingInfo:
    """The model that made embedded shards: its name, the width D and the fingerprint of its image tower.

    A tower that is not at hand has the name `external:LABEL`, and this name as its fingerprint.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    model: str
    width: Count
    fingerprint: str


@dataclass
class DatasetInfo:
    """Content of `dataset.json`."""

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    kind: Literal["images", "embeddings"]
    group_size: Count
    """Largest number of images in a group, G."""
    images: Count
    """Number of image slots over all groups. An image in two groups counts twice."""
    pairs: Count
    """Number of ordered pairs over all groups."""
    shards: list[ShardInfo]
    """The shards, in reading order."""
    embedding: EmbeddingInfo | None = None
    """The model that made the embeddings; only if `kind` is `embeddings`."""
    made_by: dict[str, Any] = field(default_factory=dict)
    """Free-form record of the inputs, options and versions that made the shards."""
    version: Literal[1] = FORMAT_VERSION

    @property
    def groups(self) -> int:
        """Number of groups over all shards."""
        return sum(shard.groups for shard in self.shards)

    def check_tower(self, folder: str | Path, model: DifferenceCLIP) -> None:
        """Check that the shards fit the model.

        Images fit any model with an image tower. Embeddings fit a model of their width whose frozen image tower made them. If
        the model has no image tower, or the tower that made them is external, only the width can be checked.

        Raises:
            ValueError: They do not fit.
        """
        if self.embedding is None:
            model.require_image_tower(str(folder))
            return
        remedy = f"give the image shards that {folder} was made from"
        if not model.image_tower_frozen:
            raise ValueError(
                f"{folder}: holds embeddings, but the image tower trains, so they would become wrong; "
                f"{remedy}, or freeze the image tower"
            )
        if self.embedding.width != model.embed_dim:
            raise ValueError(
                f"{folder}: holds embeddings of width {self.embedding.width} by {self.embedding.model}, but the model's width "
                f"is {model.embed_dim}; use a model of that width (`embed_dim`), or other shards"
            )
        made_by, own = self.embedding.fingerprint, model.image_fingerprint
        if made_by != own and model.has_image_tower and not made_by.startswith(EXTERNAL):
            raise ValueError(
                f"{folder}: its embeddings were made by another image tower or preprocessing ({self.embedding.model}, "
                f"fingerprint {made_by[:12]}, the model's is {own[:12]}); make them again with `pcclip-data embed` and "
                f"this model, or {remedy}"
            )

    def write(self, folder: Path) -> None:
        """Write `dataset.json` into `folder`, atomically."""
        with atomic_text(folder / DATASET_FILE) as stream:
            stream.write(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: str | Path) -> DatasetInfo:
        """Read and check `dataset.json`, and check that each shard exists and has the right size.

        Raises:
            FileNotFoundError: The folder, its `dataset.json` or a shard is missing.
            ValueError: As `parse`, or a shard has the wrong size.
        """
        info = cls.find(folder)
        for problem in info.wrong_sizes(Path(folder)):
            raise ValueError(f"{problem}; the copy is incomplete or damaged, copy it again or make the shards again")
        return info

    @classmethod
    def find(cls, folder: str | Path) -> DatasetInfo:
        """Like `read`, without checking sizes, for readers that can use a damaged shard in part."""
        info = cls.load(folder)
        for shard in info.shards:
            if not (Path(folder) / shard.name).is_file():
                raise FileNotFoundError(
                    f"{Path(folder) / shard.name}: shard named in {Path(folder) / DATASET_FILE} is missing; "
                    "copy it here or make the shards again"
                )
        return info

    @classmethod
    def load(cls, folder: str | Path) -> DatasetInfo:
        """Read `dataset.json` like `read`, without checking the shard files."""
        folder = existing_folder(folder, "shard folder", "make it with `pcclip-data shard`")
        file = folder / DATASET_FILE
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: not found, so {folder} is not a finished shard folder; run `pcclip-data shard`"
            )
        return cls.parse(file.read_bytes(), str(file))

    def wrong_sizes(self, folder: Path) -> Iterator[str]:
        """Yield a message for each shard that has the wrong size."""
        for shard in self.shards:
            size = (folder / shard.name).stat().st_size
            if size != shard.bytes:
                yield f"{folder / shard.name}: {size} bytes, but {folder / DATASET_FILE} says {shard.bytes}"

    @classmethod
    def parse(cls, payload: bytes, where: str) -> DatasetInfo:
        """Parse and check the content of `dataset.json`.

        Args:
            payload: The file's bytes.
            where: Its path or address, for messages.

        Raises:
            ValueError: Invalid JSON, another format version, a wrong value, no group, or a shard name that is no plain file
                name or occurs twice.
        """
        try:
            info = TypeAdapter(cls).validate_json(payload)
        except ValidationError as error:
            wrong = {".".join(map(str, found["loc"])): found for found in error.errors()}
            if "version" in wrong:
                raise ValueError(
                    f"{where}: shard format version {wrong['version']['input']}, but this pcclip reads version "
                    f"{FORMAT_VERSION}; make the shards again with `pcclip-data shard`, or install the pcclip that wrote them"
                ) from error
            key, first = next(iter(wrong.items()))
            raise ValueError(
                f"{where}: not a dataset description ({key}: {first['msg']}); make the shards again"
            ) from error
        if (info.kind == "embeddings") != (info.embedding is not None):
            raise ValueError(
                f"{where}: kind {info.kind!r} with embedding {info.embedding}; expected `images` without or `embeddings` "
                "with the tower that made them; make the shards again"
            )
        if info.groups == 0:
            raise ValueError(
                f"{where}: lists no group; the shard folder is empty, make it again with `pcclip-data shard`"
            )
        for name, times in Counter(shard.name for shard in info.shards).items():
            if not name or Path(name).name != name or times > 1:
                raise ValueError(
                    f"{where}: shard {name!r} is not a file name, or is named twice; make the shards again"
                )
        return info
