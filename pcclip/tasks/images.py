"""Image embeddings for tasks: shared among processes, and computed once for each image tower."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from tqdm import tqdm

from pcclip.data.embedding_store import EmbeddingStore
from pcclip.data.encoding import encode_pictures
from pcclip.data.labelled import ImageFile
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.sharding import gathered
from pcclip.processes import broadcast, gather, rank, world_size


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, with whole weights. Afterwards each submodule is in its former mode.

    All processes must enter and leave together.
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad(), gathered(module):
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode  # not `train(mode)`, which would also switch the children


@dataclass
class ImageEmbeddings:
    """Embeddings of image files, kept as long as the image tower has the same weights.

    Training steps, checkpoints, blends and averages change weights, some of them unseen by torch's version counters, so the
    fingerprint of the weights decides. It takes 0.15 s per 100 MB, so it is computed once for each evaluation (`look_again`).
    """

    batch_size: int = 256
    num_workers: int = 0
    cache_dir: str | None = None
    """Folder in which embeddings are kept from run to run, where the caller allows it."""
    progress: bool = True

    def __post_init__(self) -> None:
        self._fingerprint: str | None = None  # of the present weights; None if they may have changed
        self._made_by: str | None = None  # fingerprint of the tower that made the rows
        self._rows: dict[ImageFile, Tensor | None] = {}

    def clear(self) -> None:
        """Forget all embeddings."""
        self._rows.clear()
        self._fingerprint = None

    def look_again(self) -> None:
        """Compute the fingerprint again before the next use, since the weights may have changed."""
        self._fingerprint = None

    def embed(
        self, model: DifferenceCLIP, images: Sequence[ImageFile], name: str, *, store: bool
    ) -> tuple[Tensor, list[int]]:
        """Return unit embeddings of the intact images.

        Every process must call this, with whole weights (`evaluating`), and gets the same answer.

        Args:
            model: Encodes.
            images: The images, N.
            name: For the progress bar and messages.
            store: Whether to keep embeddings in `cache_dir`.

        Returns:
            Embeddings (M, D) on the model's device, and the M indices into `images` of those that are not damaged.

        Raises:
            ValueError: Every image is damaged.
        """
        if self._fingerprint is None:  # process 0 decides for all, so that all of them encode or none
            self._fingerprint = broadcast(model.image_fingerprint if rank() == 0 else "")
        if self._fingerprint != self._made_by:
            self._rows.clear()
            self._made_by = self._fingerprint
        if missing := [image for image in dict.fromkeys(images) if image not in self._rows]:
            self._add(model, missing, name, self.cache_dir if store else None)
        rows = [self._rows[image] for image in images]
        intact = [row for row in rows if row is not None]
        if not intact:
            raise ValueError(f"every one of its {len(images)} images is damaged; make or copy them again")
        return torch.stack(intact).to(model.device), [index for index, row in enumerate(rows) if row is not None]

    def _add(self, model: DifferenceCLIP, missing: list[ImageFile], name: str, cache_dir: str | None) -> None:
        embeddings = torch.zeros(len(missing), model.embed_dim)
        intact = torch.zeros(len(missing), dtype=torch.bool)
        store = None
        if cache_dir is not None:
            if rank() == 0:  # it reads, and all follow
                store = EmbeddingStore(cache_dir, self._made_by or "", model.embed_dim)
                intact = store.load(missing, embeddings)
            embeddings, intact = broadcast((embeddings, intact))
        new = (~intact).nonzero().view(-1)
        if len(new):
            embeddings[new], intact[new] = self._encode(model, [missing[index] for index in new.tolist()], name)
            if store is not None:
                good = new[intact[new]]
                store.add([missing[index] for index in good.tolist()], embeddings[good])
        for image, row, good_one in zip(missing, embeddings, intact.tolist(), strict=True):
            self._rows[image] = row if good_one else None
        if damaged := [image for image in missing if self._rows[image] is None]:
            rank_zero_warn(
                f"{name}: {len(damaged)} of {len(missing)} images are damaged and left out: "
                + ", ".join(f"{image.key} in {image.path}" for image in damaged[:5])
            )

    def _encode(self, model: DifferenceCLIP, images: Sequence[ImageFile], name: str) -> tuple[Tensor, Tensor]:
        """Encode N images; each process encodes a strided share of them.

        Returns:
            Unit embeddings (N, D) on the CPU, zeros for damaged images, and which images are intact, (N,) bool.
        """
        processes, count = world_size(), len(images)
        share = -(-count // processes)  # padded, since a gather needs equal shapes
        embeddings = torch.zeros(share, model.embed_dim, device=model.device)
        intact = torch.zeros(share, device=model.device)
        own = [(place, images[number]) for place, number in enumerate(range(rank(), count, processes))]
        hidden = not self.progress or rank() > 0
        with tqdm(total=len(own), desc=f"encoding {name}", delay=3, leave=False, disable=hidden) as bar:
            for batch in encode_pictures(model, own, batch_size=self.batch_size, workers=self.num_workers):
                places = batch.places.to(model.device)
                embeddings[places], intact[places] = batch.embeddings.to(model.device), 1
                bar.update(len(batch.places) + len(batch.unreadable))
        # image i was at place i // processes of rank i % processes, so places come before ranks
        ordered = gather(embeddings).transpose(0, 1).reshape(processes * share, -1)[:count]
        return ordered.cpu(), gather(intact).T.reshape(-1)[:count].cpu() > 0
