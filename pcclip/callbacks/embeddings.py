"""Image embeddings for the evaluation callbacks: shared among ranks, and computed once for the same image tower."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, Protocol, cast
from weakref import WeakKeyDictionary

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from pcclip.data.embedding_store import EmbeddingStore
from pcclip.data.encoding import encode_pictures
from pcclip.data.labelled import ImageFile
from pcclip.metrics.protocol import Encoder
from pcclip.model.sharding import gathered


class EvaluatedModel(Encoder, Protocol):
    """An `Encoder` that also says how it wants its images, and whether its image tower trains."""

    image_transform: Callable[[Image.Image], Tensor]
    embed_dim: int

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        ...

    @property
    def image_tower_frozen(self) -> bool:
        """Whether the image tower keeps its weights, so that image embeddings may be kept."""
        ...

    @property
    def image_fingerprint(self) -> str:
        """Hash of the image tower's weights and preprocessing."""
        ...

    @property
    def text_fingerprint(self) -> str:
        """Hash of the text tower's weights and configuration."""
        ...


def model_of(pl_module: LightningModule) -> EvaluatedModel:
    """The module's `model`, which does the encoding."""
    return cast(EvaluatedModel, pl_module.model)


def tower_lasts(trainer: Trainer, pl_module: LightningModule) -> bool:
    """Return whether the image tower keeps its weights through the run: it is frozen, or the run is a `test`."""
    return trainer.testing or model_of(pl_module).image_tower_frozen


@contextmanager
def evaluating(pl_module: LightningModule) -> Iterator[None]:
    """Evaluation mode without gradients, with whole weights; afterwards each submodule is back in the mode it had.

    All processes must enter and leave together.
    """
    modes = {module: module.training for module in pl_module.modules()}
    pl_module.eval()
    try:
        with torch.no_grad(), gathered(pl_module):
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode  # not `train(mode)`, which would also switch the children


def encode_images(
    trainer: Trainer,
    pl_module: LightningModule,
    pictures: Sequence[ImageFile],
    *,
    name: str,
    batch_size: int,
    num_workers: int,
) -> tuple[Tensor, Tensor]:
    """Encode pictures, each rank a strided share of them.

    Every rank must call this with the same pictures, and gets the same answer.

    Args:
        trainer: Knows the ranks.
        pl_module: Its `model` encodes.
        pictures: The pictures, N.
        name: For the progress bar, which appears when encoding takes more than a few seconds.
        batch_size: Images encoded at a time.
        num_workers: Processes that decode.

    Returns:
        Unit embeddings (N, D) on the CPU, zeros for damaged images, and which images are intact, (N,) bool.
    """
    model, device = model_of(pl_module), pl_module.device
    rank, world_size = trainer.global_rank, trainer.world_size
    count = len(pictures)
    share = -(-count // world_size)  # padded, since a gather needs equal shapes
    embeddings = torch.zeros(share, model.embed_dim, device=device)
    intact = torch.zeros(share, device=device)
    own = [(place, pictures[number]) for place, number in enumerate(range(rank, count, world_size))]
    hidden = not trainer.is_global_zero or trainer.progress_bar_callback is None
    with (
        evaluating(pl_module),
        tqdm(total=len(own), desc=f"encoding {name}", delay=3, leave=False, disable=hidden) as bar,
    ):
        for batch in encode_pictures(model, own, batch_size=batch_size, workers=num_workers):
            places = batch.places.to(device)
            embeddings[places], intact[places] = batch.embeddings.to(device), 1
            bar.update(len(batch.places) + len(batch.unreadable))
    gathered = trainer.strategy.all_gather(embeddings).view(world_size, share, -1)
    gathered_intact = trainer.strategy.all_gather(intact).view(world_size, share)
    # image i was place i // world_size of rank i % world_size, so places come before ranks
    ordered = gathered.transpose(0, 1).reshape(world_size * share, -1)[:count]
    return ordered.cpu(), gathered_intact.T.reshape(-1)[:count].cpu() > 0


class EmbeddingCache:
    """Embeddings of image files, kept as long as the image tower has the same weights.

    One cache serves all callbacks of a module (`EmbeddingCache.of`), so that an image in several sets is encoded once.
    Training steps, checkpoints, blends and averages change weights, some of them unseen by torch's version counters. So the
    weights decide, by their fingerprint. It takes 0.15 s per 100 MB, so all callbacks of an evaluation share that of a frozen
    tower (`weights_changed`).
    """

    _caches: ClassVar[WeakKeyDictionary[LightningModule, EmbeddingCache]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._fingerprint: str | None = None  # of the present weights; None where they may have become others
        self._made_by: str | None = None  # fingerprint of the tower that made the rows
        self._rows: dict[ImageFile, Tensor | None] = {}

    @classmethod
    def of(cls, pl_module: LightningModule) -> EmbeddingCache:
        """The module's cache."""
        return cls._caches.setdefault(pl_module, cls())

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
        self._fingerprint = None

    def weights_changed(self) -> None:
        """Look at the image tower again before the next use, since its weights may be others."""
        self._fingerprint = None

    def fingerprint(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """The present image tower's `image_fingerprint`, computed only when its weights may have changed.

        Every rank must call this, with whole weights (`evaluating`), and gets the same answer.
        """
        if self._fingerprint is None:
            # rank 0 decides for all, lest some of them wait for others to encode
            own = model_of(pl_module).image_fingerprint if trainer.is_global_zero else ""
            self._fingerprint = trainer.strategy.broadcast(own)
        return self._fingerprint

    def embed(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        images: Sequence[ImageFile],
        *,
        name: str,
        batch_size: int,
        num_workers: int,
        cache_dir: str | None = None,
    ) -> tuple[Tensor, list[int]]:
        """Unit embeddings of the intact images.

        Args:
            trainer: Knows the ranks.
            pl_module: Its `model` encodes.
            images: The images, N.
            name: For the progress bar and messages.
            batch_size: Images encoded at a time.
            num_workers: Processes that decode.
            cache_dir: Folder in which embeddings are kept from run to run, unless the image tower trains.

        Returns:
            Embeddings (M, D) on the module's device, and the M indices into `images` of those that are not damaged.

        Raises:
            ValueError: Every image is damaged.
        """
        fingerprint = self.fingerprint(trainer, pl_module)
        if fingerprint != self._made_by:
            self._rows.clear()
            self._made_by = fingerprint
        missing = [image for image in dict.fromkeys(images) if image not in self._rows]
        if missing:
            model = model_of(pl_module)
            embeddings = torch.zeros(len(missing), model.embed_dim)
            known = torch.zeros(len(missing), dtype=torch.bool)
            store = None
            if cache_dir is not None and tower_lasts(trainer, pl_module):  # rank 0 looks, all follow
                if trainer.is_global_zero:
                    store = EmbeddingStore(cache_dir, fingerprint, model.embed_dim)
                    known = store.load(missing, embeddings)
                embeddings, known = trainer.strategy.broadcast((embeddings, known))
            intact = known.clone()
            new = (~known).nonzero().view(-1)
            if len(new):
                images_to_encode = [missing[index] for index in new.tolist()]
                embeddings[new], intact[new] = encode_images(
                    trainer,
                    pl_module,
                    images_to_encode,
                    name=name,
                    batch_size=batch_size,
                    num_workers=num_workers,
                )
                if store is not None:
                    good = new[intact[new]]
                    store.add([missing[index] for index in good.tolist()], embeddings[good])
            for image, row, good in zip(missing, embeddings, intact.tolist(), strict=True):
                self._rows[image] = row if good else None
            if damaged := [image for image in missing if self._rows[image] is None]:
                rank_zero_warn(
                    f"{name}: {len(damaged)} of {len(missing)} images are damaged and left out: "
                    + ", ".join(f"{image.key} in {image.path}" for image in damaged[:5])
                )
        rows = [self._rows[image] for image in images]
        intact_rows = [row for row in rows if row is not None]
        if not intact_rows:
            raise ValueError(f"{name}: every one of its {len(images)} images is damaged; make or copy them again")
        kept = [index for index, row in enumerate(rows) if row is not None]
        return torch.stack(intact_rows).to(pl_module.device), kept
