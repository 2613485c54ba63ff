"""Pairs and pictures per second of the loader: `python -m benchmarks.loader`.

- Embedded shards, in one process: groups read, pairs drawn and tokenised, batches joined. The baseline does the same as one
  would write it: webdataset reads and decodes, open_clip's tokenizer pads to 77 tokens. Texts are made up, as long as
  difference texts are; their few words are known after the first turn, which is not counted, as those of real texts are
  after the first part of an epoch.
- Image shards, in as many worker processes as there are cores: the same, and pictures decoded, shrunk and cut to 224 pixels.
  The baseline is Pillow doing the latter alone, its results thrown away, in as many processes. What Pillow needs to decode
  without shrinking and cutting is measured too.

They take turns on the same shards. Drawn pictures are about as hard to decode as photographs (`benchmarks/synthetic.py`).
"""

import argparse
import io
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import webdataset as wds
from PIL import Image
from torch import Tensor

from benchmarks.measure import alternate, report, speed_rows
from benchmarks.synthetic import write_shards
from pcclip.data.collate import Draw
from pcclip.data.damage import DamageTally
from pcclip.data.folders import ShardFolder
from pcclip.data.format import EmbeddingInfo
from pcclip.data.groups import read_samples
from pcclip.data.loader import EpochLoader
from pcclip.data.stream import PairBatches
from pcclip.model.pixels import uint8_transform
from pcclip.model.text import Tokenizer

GROUP_SIZE = 16
GROUPS_PER_SHARD = 16
DRAW = Draw(groups_per_batch=8, pairs_per_group=32, captions_per_group=0)  # the data module's own defaults
SIDE = 224

pictures: list[bytes] = []  # what Pillow decodes; its processes are forked from this one


def open_batches(folder: Path) -> PairBatches:
    """The batches of a local shard folder, without a model."""
    tokenizer = Tokenizer(open_clip.get_tokenizer("ViT-B-32"), trim=True)
    transform = uint8_transform({"size": SIDE})
    return PairBatches([ShardFolder.open(str(folder), folder / "cache")], transform, tokenizer, DRAW)


def plain_batches(folder: Path, seed: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Embeddings, pairs and tokens of an embedded folder's batches, by webdataset and open_clip alone."""
    random = np.random.default_rng(seed)
    samples = iter(wds.WebDataset(sorted(map(str, folder.glob("*.tar"))), shardshuffle=False).decode())
    while group := list(itertools.islice(samples, DRAW.groups_per_batch)):
        rows, pairs, texts = [], [], []
        for place, sample in enumerate(group):
            rows.append(torch.from_numpy(sample["embeddings.npy"]).float())
            stored = sample["json"]["pairs"]
            drawn = [stored[i] for i in random.permutation(len(stored))[: DRAW.pairs_per_group]]
            pairs += [(GROUP_SIZE * place + pair["first"], GROUP_SIZE * place + pair["second"]) for pair in drawn]
            texts += [pair["text"] for pair in drawn]
        yield torch.nn.functional.normalize(torch.cat(rows), dim=-1), torch.tensor(pairs), open_clip.tokenize(texts)


def measure_embedded(folder: Path, groups: int, repeats: int) -> list[dict[str, Any]]:
    """Pairs per second of one process."""
    write_shards(
        folder,
        shards=groups // GROUPS_PER_SHARD,
        groups_per_shard=GROUPS_PER_SHARD,
        embedding=EmbeddingInfo("ViT-L-14", 768, "0" * 64),
    )
    batches, epochs, seeds = open_batches(folder), itertools.count(), itertools.count()

    def own() -> None:
        epoch = next(epochs)
        pairs = sum(len(batches[epoch, number].first) for number in range(len(batches)))
        assert pairs == groups * DRAW.pairs_per_group

    def plain() -> None:
        pairs = sum(len(tokens) for _, _, tokens in plain_batches(folder, next(seeds)))
        assert pairs == groups * DRAW.pairs_per_group

    seconds = alternate({"webdataset and open_clip": plain, "pcclip": own}, repeats)
    labels = {"what": "pairs of embedded shards", "processes": 1}
    return speed_rows(groups * DRAW.pairs_per_group, seconds, rate="a second", **labels)


def decode(first: int, step: int) -> None:
    """Decode every `step`th picture."""
    for payload in pictures[first::step]:
        with Image.open(io.BytesIO(payload)) as image:
            image.convert("RGB")


def decode_and_cut(first: int, step: int) -> None:
    """Decode every `step`th picture, shrink it so that its shorter side fits, and cut out its middle."""
    for payload in pictures[first::step]:
        with Image.open(io.BytesIO(payload)) as image:
            width, height = (round(SIDE * length / min(image.size)) for length in image.size)
            small = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
            left, top = (width - SIDE) // 2, (height - SIDE) // 2
            small.crop((left, top, left + SIDE, top + SIDE))


def measure_images(
    folder: Path, groups: int, size: tuple[int, int], workers: int, repeats: int
) -> list[dict[str, Any]]:
    """Pictures per second of so many worker processes."""
    write_shards(folder, shards=groups // GROUPS_PER_SHARD, groups_per_shard=GROUPS_PER_SHARD, size=size)
    for shard in sorted(folder.glob("*.tar")):
        for sample in read_samples(shard, GROUPS_PER_SHARD):
            pictures.extend(payload for name, payload in sample.members.items() if name.endswith(".jpg"))
    epochs = itertools.count()
    batches = open_batches(folder)
    loader = EpochLoader(
        batches, lambda: (next(epochs), 0), DamageTally(0.0, len(pictures)), num_workers=workers, persistent=True
    )

    def own() -> None:
        found = sum(len(batch.images) for batch in loader if batch.images is not None)
        assert found == len(pictures)

    with ProcessPoolExecutor(workers, get_context("fork")) as pool:

        def pillow(work: Callable[[int, int], None]) -> None:
            list(pool.map(work, range(workers), [workers] * workers))

        seconds = alternate(
            {
                "Pillow: decode, shrink, cut": lambda: pillow(decode_and_cut),
                "pcclip": own,
                "Pillow: decode": lambda: pillow(decode),
            },
            repeats,
        )
    loader.close()
    labels = {"what": f"pictures of {size[0]}x{size[1]}", "processes": workers}
    return speed_rows(len(pictures), seconds, rate="a second", **labels)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    multiple = f"a multiple of {GROUPS_PER_SHARD}"
    parser.add_argument(
        "--groups", type=int, default=384, help=f"of embeddings, {multiple}; 32 pairs are drawn of each"
    )
    parser.add_argument("--image-groups", type=int, default=128, help=f"groups of 16 pictures, {multiple}")
    parser.add_argument("--size", type=int, nargs=2, default=(320, 240), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="for the pictures")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="pcclip-benchmark-") as name:
        rows = [
            *measure_embedded(Path(name) / "embedded", options.groups, options.repeats),
            *measure_images(
                Path(name) / "images", options.image_groups, tuple(options.size), options.workers, options.repeats
            ),
        ]
    report("loader", rows)


if __name__ == "__main__":
    main()
