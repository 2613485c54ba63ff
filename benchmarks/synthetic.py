"""Shards to measure on: drawn pictures or random embeddings, and made-up texts as long as difference texts are."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pcclip.data.format import DatasetInfo, EmbeddingInfo, ShardInfo

WORDS = """
a large small brown white black red dog cat man woman child street beach room table window field running sitting standing
holding riding near behind under bright dark old young several two three people grass water snow car train
""".split()  # noqa: SIM905


def text(random: np.random.Generator) -> str:
    """A text of about 34 tokens, some up to 77."""
    words = int(np.clip(random.lognormal(3.0, 0.38), 8, 66))
    said = " ".join(random.choice(WORDS, words))
    return f"The first image shows {said[: len(said) // 2]}, while the second shows {said[len(said) // 2 :]}."


def jpeg(random: np.random.Generator, width: int, height: int) -> bytes:
    """A picture about as hard to decode as a photograph: soft shapes at several scales, and grain."""
    pixels = np.zeros((height, width, 3), np.float32)
    for cells in (4, 16, 64):
        coarse = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        pixels += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 3
    pixels += random.normal(0, 6, pixels.shape)
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def embeddings(random: np.random.Generator, group_size: int, width: int) -> bytes:
    """A group's embeddings as a `.npy`."""
    stream = io.BytesIO()
    np.save(stream, random.normal(size=(group_size, width)).astype(np.float16))
    return stream.getvalue()


def write_shards(
    folder: Path,
    *,
    shards: int,
    groups_per_shard: int,
    group_size: int = 16,
    pairs: int = 120,
    size: tuple[int, int] | None = None,
    embedding: EmbeddingInfo | None = None,
    seed: int = 0,
) -> None:
    """Write a shard folder of pictures of a `size`, or else of embeddings.

    Args:
        folder: Where to; made.
        shards: Number of shards.
        groups_per_shard: Groups in each.
        group_size: Images in a group.
        pairs: Ordered pairs in a group, half of them the reverses of the others.
        size: Width and height of pictures.
        embedding: What is said to have made the embeddings.
        seed: Seed of everything drawn.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    # A few contents, repeated: drawing thousands of pictures would take longer than reading them.
    pictures = [jpeg(random, *size) for _ in range(32)] if size else []
    listed = []
    for number in range(shards):
        path = folder / f"{number:06d}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
            for place in range(groups_per_shard):
                group = number * groups_per_shard + place
                add = _adder(tar, f"{group:08d}")
                for image in range(group_size if size else 0):
                    add(f"{image:02d}.jpg", pictures[random.integers(len(pictures))])
                if embedding is not None:
                    add("embeddings.npy", embeddings(random, group_size, embedding.width))
                add("json", json.dumps(_record(random, group, group_size, pairs)).encode())
        content = path.read_bytes()
        listed.append(ShardInfo(path.name, groups_per_shard, len(content), hashlib.sha256(content).hexdigest()))
    groups = shards * groups_per_shard
    kind = "images" if size else "embeddings"
    DatasetInfo(kind, group_size, groups * group_size, groups * pairs, listed, embedding).write(folder)  # type: ignore[arg-type]


def _adder(tar: tarfile.TarFile, key: str) -> Callable[[str, bytes], None]:
    def add(extension: str, payload: bytes) -> None:
        member = tarfile.TarInfo(f"{key}.{extension}")
        member.size = len(payload)
        tar.addfile(member, io.BytesIO(payload))

    return add


def _record(random: np.random.Generator, group: int, group_size: int, pairs: int) -> dict[str, object]:
    images = [{"id": f"{group}/{i}", "captions": [text(random)[:60]]} for i in range(group_size)]
    rows = []
    for _ in range(pairs // 2):
        first, second = random.permutation(group_size)[:2].tolist()
        rows += [{"first": a, "second": b, "text": text(random)} for a, b in ((first, second), (second, first))]
    return {"images": images, "pairs": rows}
