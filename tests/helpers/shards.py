"""Writes small shard folders by hand, without the code under test."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pcclip.data.format import DatasetInfo, EmbeddingInfo, ShardInfo


def picture(index: int, size: int = 32) -> bytes:
    """A PNG of one colour that depends on the index."""
    colour = tuple(int(c) for c in np.random.default_rng(index).integers(0, 256, 3))
    stream = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(stream, "PNG")
    return stream.getvalue()


def group_record(group: int, group_size: int) -> dict[str, Any]:
    """A group whose texts name its images, with every ordered pair."""
    ids = [f"g{group}i{i}" for i in range(group_size)]
    return {
        "images": [{"id": name, "captions": [f"picture {name}", f"this is {name}"]} for name in ids],
        "pairs": [
            {"first": a, "second": b, "text": f"the first is {ids[a]}, the second is {ids[b]}"}
            for a in range(group_size)
            for b in range(group_size)
            if a != b
        ],
    }


def add(tar: tarfile.TarFile, name: str, payload: bytes) -> None:
    """Add one member."""
    info = tarfile.TarInfo(name)
    info.size = len(payload)
    tar.addfile(info, io.BytesIO(payload))


def write_dataset(folder: Path, shards: list[list[dict[str, bytes]]], info: dict[str, Any]) -> Path:
    """Write tars of samples (`__key__` and members by extension) and their dataset.json."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for number, samples in enumerate(shards):
        path = folder / f"{number:05d}.tar"
        with tarfile.open(path, "w") as tar:
            for sample in samples:
                key = sample["__key__"].decode()
                for extension, payload in sample.items():
                    if extension != "__key__":
                        add(tar, f"{key}.{extension}", payload)
        content = path.read_bytes()
        listed.append(ShardInfo(path.name, len(samples), len(content), hashlib.sha256(content).hexdigest()))
    DatasetInfo(shards=listed, **info).write(folder)
    return folder


def image_sample(group: int, record: dict[str, Any]) -> dict[str, bytes]:
    """One group sample with a picture for each image."""
    size = len(record["images"])
    members = {f"{i:02d}.png": picture(group * size + i) for i in range(size)}
    return {"__key__": f"{group:08d}".encode(), **members, "json": json.dumps(record).encode()}


def write_image_shards(folder: Path, groups: int, group_size: int, groups_per_shard: int) -> Path:
    """A folder of image shards with `group_record` groups."""
    samples = [image_sample(group, group_record(group, group_size)) for group in range(groups)]
    return write_dataset(
        folder,
        [samples[start : start + groups_per_shard] for start in range(0, groups, groups_per_shard)],
        {
            "kind": "images",
            "group_size": group_size,
            "images": groups * group_size,
            "pairs": groups * group_size * (group_size - 1),
        },
    )


def write_embedded_shards(
    folder: Path, embeddings: np.ndarray, fingerprint: str, model: str = "tiny", sizes: Sequence[int] = ()
) -> Path:
    """A folder of embedded groups; `embeddings` is (groups, G, D), in shards of `sizes` groups or in one."""
    groups, group_size, width = embeddings.shape
    samples = []
    for group in range(groups):
        stream = io.BytesIO()
        np.save(stream, embeddings[group].astype(np.float16))
        record = json.dumps(group_record(group, group_size)).encode()
        samples.append({"__key__": f"{group:08d}".encode(), "embeddings.npy": stream.getvalue(), "json": record})
    ends = list(accumulate(sizes or [groups]))
    return write_dataset(
        folder,
        [samples[start:stop] for start, stop in zip([0, *ends], ends, strict=False)],
        {
            "kind": "embeddings",
            "group_size": group_size,
            "images": groups * group_size,
            "pairs": groups * group_size * (group_size - 1),
            "embedding": EmbeddingInfo(model, width, fingerprint),
        },
    )
