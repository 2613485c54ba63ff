"""Step `embed`: replace the images of group shards by the embeddings of a frozen image tower, computed once.

Lightning Fabric starts a process for each device, on one or several nodes. Each process embeds its share of the shards.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import islice, tee
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies.ddp import DDPStrategy
from lightning.fabric.utilities import rank_zero_only
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, distributed
from tqdm import tqdm

from data_prep.manifest import Manifest
from data_prep.partial import FinishedShard, PartialFolder, ShardFile, dataset_of, embeddings_payload
from data_prep.progress import timing
from data_prep.step import OutputStep
from pcclip.data.damage import REASONS, DamagedGroupError
from pcclip.data.encoding import Encoded, encode_pictures
from pcclip.data.format import (
    DATASET_FILE,
    EMBEDDINGS_EXTENSION,
    IMAGE_EXTENSIONS,
    DatasetInfo,
    EmbeddingInfo,
    ShardInfo,
)
from pcclip.data.groups import Sample
from pcclip.data.labelled import ImageFile
from pcclip.data.tar_index import TarIndex
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.loading import load_clip
from pcclip.paths import sha256_of

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Embed(OutputStep):
    """Replace the images of group shards by the embeddings of a frozen image tower, computed once."""

    version: ClassVar[int] = 1

    shards: str
    """Folder of image shards."""
    model: str
    """The tower's model: an open_clip name, `local-dir:FOLDER`, `hf-hub:NAME` or a JSON model configuration."""
    pretrained: str | None = None
    """open_clip's pretrained tag or a weights file."""
    image_weights: str | None = None
    """Weights file for the image tower alone, e.g. of a timm backbone."""
    preprocess: dict[str, Any] = field(default_factory=dict)
    """Settings that override the model's preprocessing, e.g. `{mean: [...], std: [...]}`."""
    batch_size: PositiveInt = 128
    """Images in a batch."""
    workers: NonNegativeInt = 2
    """Decoding processes per device; 0 decodes in the device's own process."""
    accelerator: str = "auto"
    """Accelerator, as in Lightning: `auto`, `gpu`, `cpu`, ..."""
    devices: int | str = "auto"
    """Devices, as in Lightning: `auto` for all, a number, or a list such as `"0,2"`."""
    num_nodes: PositiveInt = 1
    """Number of nodes. Start the command on each with SLURM, torchrun or by hand. `output` must be on a shared disk."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """Precision of the tower: `32-true`, `bf16-mixed` or `16-mixed`."""

    def check_options(self) -> None:
        if not (self.pretrained or self.image_weights or self.model.startswith(("local-dir:", "hf-hub:"))):
            raise ValueError(
                f"embed.model: {self.model} comes without weights; give `pretrained` or `image_weights`, or as model a "
                "folder that carries its own (`local-dir:FOLDER`)"
            )

    def lock(self) -> AbstractContextManager[None]:
        """Return the lock of the output for the first process, which publishes it. The others need none."""
        return super().lock() if getattr(rank_zero_only, "rank", 0) == 0 else nullcontext()

    def inputs(self) -> dict[str, str | Path]:
        """Return the hashes of the shards, as their `dataset.json` has them.

        Raises:
            FileNotFoundError: `shards` or a shard is missing.
            ValueError: `shards` holds no images.
        """
        read = DatasetInfo.read(Path(self.shards))
        if read.kind != "images":
            raise ValueError(
                f"{self.shards}: holds {read.kind}, not images; give the folder that `pcclip-data shard` wrote"
            )
        return {shard.name: shard.sha256 for shard in read.shards}

    def settings(self) -> dict[str, Any]:
        """Return the precision if it is not `32-true`, the default. `make` adds the fingerprint of the tower."""
        return {} if self.precision == "32-true" else {"precision": self.precision}

    def is_current(self, manifest: Manifest) -> bool:
        """Return False. `make` checks it later, because it needs the fingerprint of the tower."""
        return False

    def make(self, manifest: Manifest) -> None:
        """Embed the shards that no earlier run has finished, and publish all.

        Raises:
            FileNotFoundError: A file of weights is missing.
            ValueError: A damaged shard, an unknown model, or an image tower with random weights.
        """
        output, read = Path(self.output), DatasetInfo.read(self.shards)
        model = self.load_model()
        embedding = EmbeddingInfo(self.model, model.embed_dim, model.image_fingerprint)
        manifest.options["fingerprint"] = embedding.fingerprint
        folder = PartialFolder(output)
        if folder.is_published(manifest):
            print(f"{output} is up to date")
            return
        fabric, spawns = build_fabric(self)
        left: list[ShardInfo] = []
        if fabric.is_global_zero:
            folder.begin({key: getattr(manifest, key) for key in ("step_version", "inputs", "options")})
            left = [shard for shard in read.shards if folder.finished(shard.name) is None]
        share = partial(embed_share, options=self, left=left, model=None if spawns else model)
        fresh = {done.shard.name: done for done in fabric.launch(share)}
        if not fabric.is_global_zero:
            return
        finished = [fresh.get(shard.name) or folder.finished(shard.name) for shard in read.shards]
        if None in finished:
            raise FileNotFoundError(f"{folder.shards}: a finished shard has disappeared; run again")
        info = dataset_of([done for done in finished if done is not None], embedding)
        if not info.groups:
            raise ValueError(f"{self.shards}: not one group can be read; make the shards again")
        damaged = sum(done.damaged for done in finished if done is not None)
        lost = read.groups - info.groups
        counts = {"groups": info.groups, "images": info.images, "pairs": info.pairs, "damaged_images": damaged}
        manifest.complete({**counts, "damaged_groups": lost})
        folder.publish(info, manifest, manifest.inputs)
        print(f"{output}: {info.groups} groups, {info.images} embeddings of width {embedding.width}")
        if damaged or lost:
            print(f"{output}: {damaged} images and {lost} whole groups could not be read")

    def load_model(self) -> DifferenceCLIP:
        """Return the frozen model on the CPU."""
        model = load_clip(self.model, self.pretrained, image_weights=self.image_weights, preprocess=self.preprocess)
        model.require_image_tower(self.shards)
        return model.requires_grad_(False).eval()


def build_fabric(options: Embed) -> tuple[Fabric, bool]:
    """Return Fabric for the devices that the options ask for, and whether it will spawn their processes."""
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    settings: dict[str, Any] = {
        "accelerator": options.accelerator,
        "devices": options.devices,
        "num_nodes": options.num_nodes,
        "precision": options.precision,
    }
    fabric = Fabric(**settings)
    if fabric.world_size == 1:
        return fabric, False
    environment = getattr(fabric.strategy, "cluster_environment", None)
    spawns = environment is None or not environment.creates_processes_externally
    # By default, Fabric would start the whole command again for each device, with all steps before this one. A process
    # that has finished waits for the slowest, which may take days on CPUs.
    strategy = DDPStrategy(
        start_method="spawn" if spawns else "popen", process_group_backend="gloo", timeout=timedelta(days=7)
    )
    return Fabric(strategy=strategy, **settings), spawns


def embed_share(
    fabric: Fabric, options: Embed, left: Sequence[ShardInfo], model: DifferenceCLIP | None
) -> list[FinishedShard]:
    """Embed this process's share of the shards, and return what all processes have finished.

    Args:
        fabric: Fabric, launched.
        options: The options.
        left: The shards to embed, in the first process.
        model: The model. None in a spawned process, which loads it: sending it would fill a container's shared memory.

    Raises:
        ValueError: A shard is not the one that was packed, or an embedding is not finite.
    """
    if model is None:
        model = options.load_model()
        # Spawned processes would spawn the decoding workers too, which takes seconds for each.
        torch.multiprocessing.set_start_method(torch.multiprocessing.get_all_start_methods()[0], force=True)
    model = model.to(fabric.device)
    source, folder = Path(options.shards), PartialFolder(Path(options.output))
    own = fabric.broadcast(left)[fabric.global_rank :: fabric.world_size]
    written, ahead = tee((shard, list(stored_groups(source / shard.name, shard.groups))) for shard in own)
    images = enumerate(image for _, groups in ahead for group in groups for image in group.images)
    finished: list[FinishedShard] = []
    bar: tqdm[None] = tqdm(
        desc="embed" if fabric.world_size == 1 else f"embed (process 1 of {fabric.world_size})",
        unit="group",
        total=sum(shard.groups for shard in own),
        disable=fabric.global_rank > 0,
        **timing(),
    )
    with fabric.autocast(), bar:
        rows = embeddings_of(encode_pictures(model, images, batch_size=options.batch_size, workers=options.workers))
        for shard, groups in written:
            if sha256_of(source / shard.name) != shard.sha256:
                raise ValueError(
                    f"{source / shard.name}: damaged, its sha256 is not that of {DATASET_FILE}; copy it again, or make the "
                    "shards again"
                )
            with folder.shard(shard.name) as file:
                for group in groups:
                    write_group(file, group, list(islice(rows, len(group.images))), options.precision)
                    bar.update()
            finished.append(file.written)
    shares = [finished]
    if fabric.world_size > 1:
        # Not read from the records: files that another node has written may take a while to appear.
        shares = [[] for _ in range(fabric.world_size)]
        distributed.all_gather_object(shares, finished)
        distributed.destroy_process_group()  # a process that exits with the group's threads running may abort
    return [done for share in shares for done in share]


class StoredGroup(NamedTuple):
    """A group of an image shard."""

    where: str
    """Shard and key, for messages."""
    key: str
    record: bytes
    """Its JSON member."""
    pairs: int
    """Number of its ordered pairs."""
    images: list[ImageFile]
    """Where its images lie in the shard."""


def stored_groups(shard: Path, count: int) -> Iterator[StoredGroup]:
    """Yield the groups of a shard, `count` in all. Groups that cannot be read are skipped with a warning.

    Raises:
        ValueError: The content of a record is wrong.
    """
    with TarIndex(shard) as tar:
        for place, entry in enumerate(tar.entries[:count]):
            where = f"{shard}: group {entry.key}"
            try:
                sample = Sample(where, entry.key, tar.read(place, only=("json",)), entry.lost)
                record = sample.record()
            except DamagedGroupError as error:
                logger.warning("%s; group left out", error)
                continue
            images = []
            for index in range(len(record["images"])):
                names = (f"{index:02d}.{extension}" for extension in IMAGE_EXTENSIONS)
                offset, size = next((entry.members[name] for name in names if name in entry.members), (0, 0))
                images.append(ImageFile(str(shard), f"{where}: image {index}", offset=offset, size=size))
            yield StoredGroup(where, entry.key, sample.members["json"], len(record["pairs"]), images)
        if len(tar.entries) < count:
            logger.warning("%s: %s; %d groups left out", shard, REASONS[tar.damage], count - len(tar.entries))


def embeddings_of(batches: Iterable[Encoded]) -> Iterator[Tensor | None]:
    """Yield the embedding (D,) of each image in order, None for an image that cannot be read."""
    for batch in batches:
        found: dict[int, Tensor] = dict(zip(batch.places.tolist(), batch.embeddings, strict=True))
        yield from (found.get(number) for number in sorted([*found, *batch.unreadable]))


def write_group(file: ShardFile, group: StoredGroup, rows: Sequence[Tensor | None], precision: str) -> None:
    """Write a group with its embeddings, which are NaN for damaged images. A group without intact images is left out.

    Raises:
        ValueError: An embedding is not finite.
    """
    intact = [row for row in rows if row is not None]
    if not intact:
        logger.warning("%s: none of its %d images can be used; group left out", group.where, len(rows))
        return
    if not torch.stack(intact).isfinite().all():
        raise ValueError(
            f"{group.where}: some embeddings are not finite; the weights are damaged, or embed.precision={precision} is too "
            "narrow for this tower: use bf16-mixed or 32-true"
        )
    missing = torch.full_like(intact[0], torch.nan)
    array = torch.stack([missing if row is None else row for row in rows]).numpy()
    members = {"json": group.record, EMBEDDINGS_EXTENSION: embeddings_payload(array)}
    file.add(group.key, members, images=len(rows), pairs=group.pairs, damaged=len(rows) - len(intact))
