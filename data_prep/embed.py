"""Step `embed`: replace the images of group shards by the embeddings of a frozen image tower, computed once."""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds
from numpy.typing import NDArray
from omegaconf import MISSING
from torch.utils.data import DataLoader, IterableDataset

from data_prep.files import atomic_file
from data_prep.manifest import Manifest
from data_prep.progress import progress
from data_prep.shard import is_whole
from pcclip.data.format import (
    EMBEDDINGS_EXTENSION,
    DamagedGroupError,
    DatasetInfo,
    EmbeddingInfo,
    ShardInfo,
    parse_group,
    sha256_of,
)
from pcclip.data.groups import Group, ImageTransform, decode_group, read_samples
from pcclip.model.clip import DifferenceModel
from pcclip.model.loading import load_clip

STEP_VERSION = 1
PLAN_FILE = "plan.json"
logger = logging.getLogger(__name__)


@dataclass
class Options:
    """Options of the step.

    Attributes:
        shards: Folder of image shards.
        output: Folder of embedded shards to write.
        model: The tower's model: an open_clip name, `local-dir:FOLDER`, `hf-hub:NAME` or a JSON model configuration.
        pretrained: open_clip's pretrained tag or a weights file.
        image_weights: Weights file for the image tower alone, e.g. of a timm backbone.
        preprocess: Preprocessing to set instead of the model's own, e.g. `{mean: [...], std: [...]}`.
        groups_per_batch: Groups that go through the tower at once.
        workers: Processes that decode; 0 decodes in this one.
        device: Torch device; null takes a GPU if there is one.
    """

    shards: str = MISSING
    output: str = MISSING
    model: str = MISSING
    pretrained: str | None = None
    image_weights: str | None = None
    preprocess: dict[str, Any] = field(default_factory=dict)
    groups_per_batch: int = 8
    workers: int = 2
    device: str | None = None


class ShardGroups(IterableDataset[tuple[bytes, Group]]):
    """Decoded groups of one shard, each with its JSON member's bytes; workers share the shard by taking turns."""

    def __init__(self, shard: Path, transform: ImageTransform) -> None:
        self.shard = shard
        self.transform = transform

    def __iter__(self) -> Iterator[tuple[bytes, Group]]:
        worker = torch.utils.data.get_worker_info()
        turn, turns = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for index, sample in enumerate(read_samples([self.shard])):
            if index % turns == turn:
                try:
                    yield bytes(sample["json"]), decode_group(sample, self.transform)
                except DamagedGroupError as error:
                    logger.warning("%s; group left out", error)


def run(options: Options) -> None:
    """Read the image shards `shards`, write embedded shards to `output`; finished shards survive an interruption.

    Raises:
        FileNotFoundError: `shards`, a shard or a file of weights is missing.
        ValueError: `shards` holds no images, the model is unknown or its image tower would have random weights.
    """
    for name, least in (("groups_per_batch", 1), ("workers", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"embed.{name} must be at least {least}, found {getattr(options, name)}")
    source, output = Path(options.shards), Path(options.output)
    read = DatasetInfo.read(source)
    if read.kind != "images":
        raise ValueError(f"{source}: holds {read.kind}, not images; give the folder that `pcclip-data shard` wrote")
    if not (options.pretrained or options.image_weights or options.model.startswith(("local-dir:", "hf-hub:"))):
        raise ValueError(
            f"embed.model: {options.model} comes without weights; give `pretrained` or `image_weights`, or as model a "
            "folder that carries its own (`local-dir:FOLDER`)"
        )
    model = load_clip(
        options.model, options.pretrained, image_weights=options.image_weights, preprocess=options.preprocess
    ).eval()
    embedding = EmbeddingInfo(options.model, model.embed_dim, model.image_fingerprint)
    manifest = Manifest(
        "embed",
        STEP_VERSION,
        {shard.name: shard.sha256 for shard in read.shards},
        {"fingerprint": embedding.fingerprint},
    )
    if manifest.matches(output) and is_whole(output):
        print(f"{output} is up to date")
        return
    model.to(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    partial = _partial_folder(output, manifest)
    info = DatasetInfo("embeddings", read.group_size, 0, 0, [], embedding)
    damaged = 0
    for shard in progress(read.shards, desc="embed", unit="shard"):
        done = _finished(partial, shard.name) or embed_shard(source / shard.name, partial, model, options)
        info.shards.append(done.shard)
        info.images += done.images
        info.pairs += done.pairs
        damaged += done.damaged
    counts = {"groups": info.groups, "images": info.images, "pairs": info.pairs, "damaged_images": damaged}
    manifest.complete({**counts, "damaged_groups": read.groups - info.groups})
    info.made_by = asdict(manifest)
    for name in [PLAN_FILE, *(_record_name(shard.name) for shard in read.shards)]:
        (partial / name).unlink()
    info.write(partial)
    shutil.rmtree(output, ignore_errors=True)
    partial.replace(output)
    manifest.write(output, manifest.counts)
    print(f"{output}: {info.groups} groups, {info.images} embeddings of width {embedding.width}")
    if damaged or read.groups > info.groups:
        print(f"{output}: {damaged} images and {read.groups - info.groups} whole groups could not be read")


@dataclass(frozen=True)
class FinishedShard:
    """What was written of one shard."""

    shard: ShardInfo
    images: int
    pairs: int
    damaged: int


def embed_shard(source: Path, folder: Path, model: DifferenceModel, options: Options) -> FinishedShard:
    """Write the embedded shard of `source` into `folder`, and a record of it for restarts."""
    loader = DataLoader(ShardGroups(source, model.image_transform), batch_size=None, num_workers=options.workers)
    path, temporary = folder / source.name, folder / (source.name + ".tmp")
    groups = images = pairs = damaged = 0
    with temporary.open("wb") as stream, wds.TarWriter(stream, user="", group="", mtime=0, encoder=False) as tar:
        for batch in _batched(loader, options.groups_per_batch):
            embedded = _embed([group for _, group in batch], model)
            for (payload, group), embeddings in zip(batch, embedded, strict=True):
                array = io.BytesIO()
                np.save(array, embeddings, allow_pickle=False)
                tar.write({"__key__": group.key, EMBEDDINGS_EXTENSION: array.getvalue(), "json": payload})
                groups += 1
                images += len(group.ids)
                pairs += len(parse_group(payload, str(source))["pairs"])
                damaged += int((~group.intact).sum())
    temporary.replace(path)
    done = FinishedShard(ShardInfo(path.name, groups, path.stat().st_size, sha256_of(path)), images, pairs, damaged)
    with atomic_file(folder / _record_name(path.name)) as record:
        record.write(json.dumps(asdict(done)))
    return done


@torch.no_grad()
def _embed(groups: list[Group], model: DifferenceModel) -> Iterator[NDArray[np.float16]]:
    """Embeddings (G, D) of each group, NaN where the image is damaged."""
    device = model.device
    embeddings = model.encode_images(
        torch.cat([group.images for group in groups if group.images is not None]).to(device)
    )
    embeddings[~torch.cat([group.intact for group in groups]).to(device)] = torch.nan
    for part in torch.split(embeddings.cpu(), [len(group.ids) for group in groups]):
        yield part.numpy().astype(np.float16)


def _batched(items: Iterable[tuple[bytes, Group]], size: int) -> Iterator[list[tuple[bytes, Group]]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _partial_folder(output: Path, manifest: Manifest) -> Path:
    """Folder of finished shards of an interrupted run, emptied if that run had other input or another tower."""
    partial = output.with_name(output.name + ".partial")
    plan = json.dumps({"step_version": STEP_VERSION, "inputs": manifest.inputs, "options": manifest.options})
    file = partial / PLAN_FILE
    if not file.is_file() or file.read_text(encoding="utf-8") != plan:
        shutil.rmtree(partial, ignore_errors=True)
        with atomic_file(file) as stream:
            stream.write(plan)
    return partial


def _record_name(shard: str) -> str:
    return shard + ".json"


def _finished(partial: Path, shard: str) -> FinishedShard | None:
    file = partial / _record_name(shard)
    if not file.is_file():
        return None
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return FinishedShard(**{**record, "shard": ShardInfo(**record["shard"])})
