"""Step `embed`: replace the images of group shards by the embeddings of a frozen image tower, computed once.

Lightning's Trainer gives each device a process, on one node or several; the nodes must share the file system. Each process
takes the shards that are left by turns and writes them alone. The first process begins, and ends, for all.
"""

from __future__ import annotations

import io
import logging
import signal
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, distributed
from torch.utils.data import DataLoader
from tqdm import tqdm

from data_prep.embed_batches import Batch, ShardBatches
from data_prep.manifest import Manifest
from data_prep.partial import FinishedShard, PartialFolder, ShardFile
from data_prep.progress import progress
from data_prep.step import OutputStep
from pcclip.data.format import EMBEDDINGS_EXTENSION, DatasetInfo, EmbeddingInfo, ShardInfo
from pcclip.data.groups import ImageTransform
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.loading import load_clip


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
    """Preprocessing to set instead of the model's own, e.g. `{mean: [...], std: [...]}`."""
    groups_per_batch: PositiveInt = 8
    """Groups that go through the tower at once."""
    workers: NonNegativeInt = 2
    """Processes that decode, for each device; 0 decodes in the device's own process."""
    accelerator: str = "auto"
    """Lightning's: `auto`, `gpu`, `cpu`, ..."""
    devices: int | str = "auto"
    """Lightning's: `auto` for all of them, how many, or which, like `"0,2"`."""
    num_nodes: PositiveInt = 1
    """Nodes that take part; start the command on each, by SLURM, torchrun or by hand. They share `output`."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """What the tower computes in: `32-true`, `bf16-mixed` or `16-mixed`."""

    def check_options(self) -> None:
        if not (self.pretrained or self.image_weights or self.model.startswith(("local-dir:", "hf-hub:"))):
            raise ValueError(
                f"embed.model: {self.model} comes without weights; give `pretrained` or `image_weights`, or as model a "
                "folder that carries its own (`local-dir:FOLDER`)"
            )

    def lock(self) -> AbstractContextManager[None]:
        """Return the lock of the output for the first of several processes, which writes what all share."""
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
        """Return the precision unless it is the full one, which the fingerprint implies. `make` adds the fingerprint."""
        return {} if self.precision == "32-true" else {"precision": self.precision}

    def is_current(self, manifest: Manifest) -> bool:
        """Return False: `make` looks itself, as it needs the tower for it."""
        return False

    def make(self, manifest: Manifest) -> None:
        """Write embedded shards to `output`, unless it is up to date; finished shards survive an interruption.

        Raises:
            FileNotFoundError: A file of weights is missing.
            ValueError: A damaged shard, an unknown model, or one whose image tower would have random weights.
        """
        source, output = Path(self.shards), Path(self.output)
        model = _load(self)
        embedding = EmbeddingInfo(self.model, model.embed_dim, model.image_fingerprint)
        manifest.options["fingerprint"] = embedding.fingerprint
        partial = PartialFolder(output)
        if partial.is_published(manifest):
            print(f"{output} is up to date")
            return
        work = Work(source, DatasetInfo.read(source), embedding, manifest, partial)
        shards = ImageShards(work, model.image_transform, self)
        trainer = build_trainer(self, ShardWriter(work, shards))
        trainer.predict(ImageEmbedder(self, model), datamodule=shards, return_predictions=False)


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        source: Folder of image shards.
        read: Its `dataset.json`.
        embedding: The tower.
        manifest: The run's manifest, without counts.
        partial: Where the embedded shards are written until all are there.
    """

    source: Path
    read: DatasetInfo
    embedding: EmbeddingInfo
    manifest: Manifest
    partial: PartialFolder

    def begin(self) -> list[ShardInfo]:
        """Prepare the folder; return the shards still to be made."""
        plan = {
            "step_version": self.manifest.step_version,
            "inputs": self.manifest.inputs,
            "options": self.manifest.options,
        }
        self.partial.begin(plan)
        return [shard for shard in self.read.shards if self.partial.finished(shard.name) is None]

    def end(self, finished: list[FinishedShard]) -> None:
        """Describe all shards, some `finished` now and the others before, and publish them."""
        fresh = {done.shard.name: done for done in finished}
        info = DatasetInfo("embeddings", self.read.group_size, 0, 0, [], self.embedding)
        damaged = 0
        for shard in self.read.shards:
            done = fresh.get(shard.name) or self.partial.finished(shard.name)
            if done is None:
                raise FileNotFoundError(
                    f"{self.partial.shards / shard.name}: disappeared while others were made; run again"
                )
            done.add_to(info)
            damaged += done.damaged
        if not info.groups:
            raise ValueError(f"{self.source}: not one group can be read; make the shards again")
        lost = self.read.groups - info.groups
        counts = {"groups": info.groups, "images": info.images, "pairs": info.pairs, "damaged_images": damaged}
        self.manifest.complete({**counts, "damaged_groups": lost})
        self.partial.publish(info, self.manifest, self.manifest.inputs)
        output = self.partial.output
        print(f"{output}: {info.groups} groups, {info.images} embeddings of width {self.embedding.width}")
        if damaged or lost:
            print(f"{output}: {damaged} images and {lost} whole groups could not be read")


def build_trainer(options: Embed, writer: ShardWriter) -> Trainer:
    """The trainer for the devices that the options ask for. It writes nothing but what `writer` does, and says little."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    settings: dict[str, Any] = {
        "accelerator": options.accelerator,
        "devices": options.devices,
        "num_nodes": options.num_nodes,
        "precision": options.precision,
        "callbacks": [writer],
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
    }
    trainer = Trainer(**settings)
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment is not None and not environment.creates_processes_externally:
        # Left alone, Lightning would start the whole command again for each device, with all steps before this one.
        trainer = Trainer(strategy="ddp_spawn", **settings)
    return trainer


def _load(options: Embed) -> DifferenceCLIP:
    model = load_clip(
        options.model, options.pretrained, image_weights=options.image_weights, preprocess=options.preprocess
    )
    return model.requires_grad_(False).eval()


class ImageShards(LightningDataModule):
    """The shards that are still to be made, split among the processes.

    Attributes:
        own: Those of this process.
    """

    def __init__(self, work: Work, transform: ImageTransform, options: Embed) -> None:
        super().__init__()
        self._work = work
        self._transform = transform
        self._options = options
        self.own: list[ShardInfo] = []

    def setup(self, stage: str) -> None:
        """Let the first process look what is left, since the folder changes as soon as one begins."""
        assert self.trainer is not None
        left = self.trainer.strategy.broadcast(self._work.begin() if self.trainer.is_global_zero else [])
        self.own = left[self.trainer.global_rank :: self.trainer.world_size]

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Batches of this process's shards."""
        for message in ("does not have many workers", "persistent_workers", "LeafSpec"):  # nothing to act upon
            warnings.filterwarnings("ignore", f".*{message}")
        # Lightning has just arranged only to take note of this signal. There is nothing to save: let it end the process.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        # A process that was spawned would spawn its workers too, and each would take as long to start as it has itself.
        usual = torch.multiprocessing.get_all_start_methods()[0]
        return DataLoader(
            ShardBatches(self._work.source, self.own, self._transform, self._options.groups_per_batch),
            batch_size=None,
            num_workers=self._options.workers,
            multiprocessing_context=usual if self._options.workers else None,
            pin_memory=torch.cuda.is_available(),
        )


class ImageEmbedder(LightningModule):
    """The frozen image tower."""

    def __init__(self, options: Embed, model: DifferenceCLIP) -> None:
        super().__init__()
        self._options = options
        self.model: DifferenceCLIP | None = model

    def __getstate__(self) -> dict[str, Any]:
        # Containers have little shared memory: sending the model to the other processes would fill it.
        return {**super().__getstate__(), "_modules": {"model": None}}

    def setup(self, stage: str) -> None:
        """Load the model in a process that came without."""
        if self.model is None:
            self.model = _load(self._options)

    def predict_step(self, batch: Batch) -> Tensor:
        """Embeddings (B, D), NaN where the image is damaged."""
        assert self.model is not None
        if not batch.groups:
            return torch.zeros(0, self.model.embed_dim)
        embeddings = self.model.encode_images(batch.images)
        embeddings[~batch.intact] = torch.nan
        return embeddings


class ShardWriter(Callback):
    """Writes embeddings to shards as they come. When all processes are done, the first one completes the folder."""

    def __init__(self, work: Work, shards: ImageShards) -> None:
        self._work = work
        self._shards = shards
        self._finished: list[FinishedShard] = []
        self._bar: tqdm[Any] | None = None
        self._file: ShardFile | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Make ready for the wait at the end, which may be long: shards take long on a CPU, and some get one more."""
        if trainer.world_size > 1:
            self._group = distributed.new_group(backend="gloo", timeout=timedelta(days=7))

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the progress of the first process, whose share is the largest."""
        if trainer.is_global_zero:
            desc = "embed" if trainer.world_size == 1 else f"embed (process 1 of {trainer.world_size})"
            total = sum(shard.groups for shard in self._shards.own)
            self._bar = progress((), desc=desc, unit="group", total=total)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the batch's groups."""
        if self._file is None:
            self._file = ShardFile(self._work.partial.shards / batch.shard)
        embedded = outputs.cpu()
        if not embedded[batch.intact.cpu()].isfinite().all():
            raise ValueError(
                f"{self._work.source / batch.shard}: some embeddings are not finite; the weights are damaged, or "
                f"embed.precision={trainer.precision} is too narrow for this tower: take bf16-mixed or 32-true"
            )
        parts = torch.split(embedded, [group.images for group in batch.groups])
        payloads = io.BytesIO(batch.payloads.cpu().numpy().tobytes())
        for group, embeddings in zip(batch.groups, parts, strict=True):
            array = io.BytesIO()
            np.save(array, embeddings.numpy().astype(np.float16), allow_pickle=False)
            members = {"json": payloads.read(group.json_bytes), EMBEDDINGS_EXTENSION: array.getvalue()}
            self._file.add(group.key, members, images=group.images, pairs=group.pairs, damaged=group.damaged)
        if batch.last:
            done = self._file.finish()
            self._work.partial.record(done)
            self._finished.append(done)
            self._file = None
        if self._bar is not None:
            self._bar.update(len(batch.groups))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no half shard behind."""
        if self._file is not None:
            self._file.discard(exception)
        if self._bar is not None:
            self._bar.close()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for all processes, and for the first to complete the folder."""
        if self._bar is not None:
            self._bar.close()
        finished = [self._finished]
        if trainer.world_size > 1:
            # Not by way of the files: what another node has written may take a while to be seen.
            finished = [[] for _ in range(trainer.world_size)]
            distributed.all_gather_object(finished, self._finished, group=self._group)
        if trainer.is_global_zero:
            self._work.end([done for part in finished for done in part])
        if trainer.world_size > 1:
            distributed.barrier(group=self._group)
