"""The shard format: what a group sample and `dataset.json` hold, and how they are checked.

One webdataset sample is one group of G images and the difference texts of ordered pairs inside it::

    00000042.00.jpg ... 00000042.15.jpg    the images (or, in embedded shards, 00000042.embeddings.npy, (G, D) float16)
    00000042.json                          {"images": [{"id", "captions"}], "pairs": [{"first", "second", "text"}]}

`dataset.json` beside the shards says which format version they have, how many groups each shard holds, and for embedded
shards which image tower made them, so that a reader can refuse what does not match before training starts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict

from pcclip.atomic import atomic_text
from pcclip.data.damage import DamagedGroupError
from pcclip.paths import existing_folder

FORMAT_VERSION = 1
DATASET_FILE = "dataset.json"
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
EMBEDDINGS_EXTENSION = "embeddings.npy"


class ImageRecord(TypedDict):
    """One image of a group: its id in the source dataset and its captions (possibly none)."""

    id: str
    captions: list[str]


class PairRecord(TypedDict):
    """One ordered pair: indices into the group's images, and the text that describes first against second."""

    first: int
    second: int
    text: str


class GroupRecord(TypedDict):
    """The JSON member of a group sample."""

    images: list[ImageRecord]
    pairs: list[PairRecord]


@dataclass
class ShardInfo:
    """One shard: its file name, how many groups it holds, its size in bytes and its sha256."""

    name: str
    groups: int
    bytes: int
    sha256: str


@dataclass
class EmbeddingInfo:
    """What made the embeddings of embedded shards: the model's name, the width D and the image tower's fingerprint."""

    model: str
    width: int
    fingerprint: str


class HasImageTower(Protocol):
    """What shards of embeddings must know of the model that is to use them."""

    @property
    def image_tower_frozen(self) -> bool:
        """Whether the image tower keeps its weights."""
        ...

    @property
    def image_fingerprint(self) -> str:
        """Hash of the image tower's weights and preprocessing."""
        ...


@dataclass
class DatasetInfo:
    """Content of `dataset.json`.

    Attributes:
        kind: `images` or `embeddings`.
        group_size: Largest number of images in a group, G.
        images: Number of image slots over all groups (an image dealt into two groups counts twice).
        pairs: Number of ordered pairs over all groups.
        shards: The shards, in reading order.
        embedding: What made the embeddings; only for `embeddings`.
        made_by: Free-form record of the inputs, options and versions that made the shards.
    """

    kind: Literal["images", "embeddings"]
    group_size: int
    images: int
    pairs: int
    shards: list[ShardInfo]
    embedding: EmbeddingInfo | None = None
    made_by: dict[str, Any] = field(default_factory=dict)
    version: int = FORMAT_VERSION

    @property
    def groups(self) -> int:
        """Number of groups over all shards."""
        return sum(shard.groups for shard in self.shards)

    def check_tower(self, folder: str | Path, model: HasImageTower) -> None:
        """Refuse embeddings of an image tower that trains, or that another tower made. Shards of images fit any model.

        Raises:
            ValueError: Naming the folder and what to do.
        """
        if self.embedding is None:
            return
        remedy = f"give the image shards that {folder} was made from"
        if not model.image_tower_frozen:
            raise ValueError(
                f"{folder}: holds embeddings, but the image tower trains, so they would go stale; "
                f"{remedy}, or freeze the image tower"
            )
        made_by, own = self.embedding.fingerprint, model.image_fingerprint
        if made_by != own:
            raise ValueError(
                f"{folder}: its embeddings were made by another image tower or preprocessing ({self.embedding.model}, "
                f"fingerprint {made_by[:12]}, the model's is {own[:12]}); make them again with `pcclip-data embed` and "
                f"this model, or {remedy}"
            )

    def write(self, folder: Path) -> None:
        """Write `dataset.json` into `folder`, replacing it in one step so that no reader sees half of it."""
        with atomic_text(folder / DATASET_FILE) as stream:
            stream.write(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: str | Path) -> DatasetInfo:
        """Read and check `dataset.json` and the presence and size of every shard it names.

        Raises:
            FileNotFoundError: The folder, its `dataset.json` or a shard is missing.
            ValueError: As `parse`, or a shard has another size.
        """
        info = cls.find(folder)
        for problem in info.wrong_sizes(Path(folder)):
            raise ValueError(f"{problem}; the copy is incomplete or damaged, copy it again or make the shards again")
        return info

    @classmethod
    def find(cls, folder: str | Path) -> DatasetInfo:
        """As `read`, for readers that can do with what is left of a damaged shard: sizes are not checked."""
        folder = existing_folder(folder, "shard folder", "make it with `pcclip-data shard`")
        file = folder / DATASET_FILE
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: not found, so {folder} is not a finished shard folder; run `pcclip-data shard`"
            )
        info = cls.parse(file.read_bytes(), str(file))
        for shard in info.shards:
            if not (folder / shard.name).is_file():
                raise FileNotFoundError(
                    f"{folder / shard.name}: shard named in {file} is missing; copy it here or make the shards again"
                )
        return info

    def wrong_sizes(self, folder: Path) -> Iterator[str]:
        """Which shards have another size than they should, in words."""
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
            ValueError: It is not valid JSON, is of another version, lists no group, or a shard that is no file name.
        """
        try:
            raw = json.loads(payload.decode("utf-8"))
            version = raw.pop("version")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{where}: not a dataset description ({error}); make the shards again") from error
        if version != FORMAT_VERSION:
            raise ValueError(
                f"{where}: shard format version {version}, but this pcclip reads version {FORMAT_VERSION}; "
                "make the shards again with `pcclip-data shard`, or install the pcclip that wrote them"
            )
        try:
            embedding = raw.pop("embedding")
            info = cls(
                **{**raw, "shards": [ShardInfo(**shard) for shard in raw["shards"]]},
                embedding=None if embedding is None else EmbeddingInfo(**embedding),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{where}: missing or unknown key ({error}); make the shards again") from error
        if info.kind not in ("images", "embeddings") or (info.kind == "embeddings") != (info.embedding is not None):
            raise ValueError(
                f"{where}: kind {info.kind!r} with embedding {info.embedding}; expected `images` without or `embeddings` "
                "with the tower that made them; make the shards again"
            )
        if info.groups == 0:
            raise ValueError(
                f"{where}: lists no group; the shard folder is empty, make it again with `pcclip-data shard`"
            )
        for shard in info.shards:
            if not shard.name or Path(shard.name).name != shard.name:
                raise ValueError(f"{where}: shard {shard.name!r} is not a file name; make the shards again")
        return info


def image_member(key: str, index: int, extension: str) -> str:
    """Name of image `index` of group `key` inside the tar, e.g. `00000042.03.jpg`."""
    return f"{key}.{index:02d}.{extension}"


def parse_group(payload: bytes, where: str) -> GroupRecord:
    """Parse and check a group's JSON member.

    Args:
        payload: The member's bytes.
        where: Shard and key, for messages.

    Raises:
        DamagedGroupError: Not JSON.
        ValueError: A missing key, a pair outside the group or of an image with itself, or an empty text: the shard was
            made wrongly, which skipping the group would only hide.
    """
    try:
        record = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise DamagedGroupError("broken_record", where, error) from error
    if _is_sound(record):
        return {"images": record["images"], "pairs": record["pairs"]}
    try:
        images: list[ImageRecord] = [
            {"id": str(image["id"]), "captions": _strings(image["captions"])} for image in record["images"]
        ]
        pairs: list[PairRecord] = [
            {"first": int(pair["first"]), "second": int(pair["second"]), "text": str(pair["text"])}
            for pair in record["pairs"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{where}: not a group record ({type(error).__name__}: {error})") from error
    if not images:
        raise ValueError(f"{where}: the group has no images")
    for row, pair in enumerate(pairs):
        if not (0 <= pair["first"] < len(images) and 0 <= pair["second"] < len(images)):
            raise ValueError(
                f"{where}: pair {row} points to images {pair['first']} and {pair['second']}, "
                f"but the group has {len(images)} (0 to {len(images) - 1}); make the shard again"
            )
        if pair["first"] == pair["second"]:
            raise ValueError(f"{where}: pair {row} compares image {pair['first']} with itself; make the shard again")
        if not pair["text"].strip():
            raise ValueError(f"{where}: pair {row} has an empty text; run `pcclip-data screen` before `shard`")
    return {"images": images, "pairs": pairs}


def _is_sound(record: Any) -> bool:
    """Whether all is as `parse_group` wants it, told in a fraction of the time that it takes to say what is not."""
    try:
        images, pairs = record["images"], record["pairs"]
        ids = [image["id"] for image in images]
        captions = [text for image in images for text in image["captions"]]
        first, second = [pair["first"] for pair in pairs], [pair["second"] for pair in pairs]
        texts = [pair["text"] for pair in pairs]
    except (KeyError, TypeError):
        return False
    return (
        bool(ids)
        and {type(value) for value in ids + captions + texts} <= {str}
        and {type(image["captions"]) for image in images} == {list}
        and {type(value) for value in first + second} <= {int}
        and min(first + second, default=0) >= 0
        and max(first + second, default=0) < len(ids)
        and not any(map(int.__eq__, first, second))
        and all(map(str.strip, texts))
    )


def _strings(value: object) -> list[str]:
    if not isinstance(value, list):
        raise TypeError(f"captions are a list of texts, not {value!r}")
    return [str(text) for text in value]


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):  # hashlib.file_digest needs Python 3.11
            digest.update(block)
    return digest.hexdigest()
