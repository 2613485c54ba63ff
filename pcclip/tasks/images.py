"""Image embeddings for tasks. Processes share the work, and each image tower encodes an image once."""

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
    """Context of evaluation mode without gradients, with full (unsharded) weights. It restores the mode of each submodule.

    All processes must enter and leave it together.
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
    """Cache of embeddings of image files. It is cleared when the weights of the image tower change.

    A hash of the weights detects changes, since torch's version counters miss some, such as blended and averaged weights.
    The hash takes 0.15 s per 100 MB, so it is computed only after a call of `look_again`, once for each evaluation.
    """

    batch_size: int = 256
    num_workers: int = 0
    cache_dir: str | None = None
    """Folder of the cache on disk, which is used where the caller of `embed` allows it."""
    progress: bool = True

    def __post_init__(self) -> None:
        self._fingerprint: str | None = None  # of the current weights; None if they may have changed
        self._made_by: str | None = None  # fingerprint of the tower that made `_rows`
        self._rows: dict[ImageFile, Tensor | None] = {}

    def clear(self) -> None:
        """Clear the cache in memory."""
        self._rows.clear()
        self._fingerprint = None

    def look_again(self) -> None:
        """Compute the fingerprint again before the next use, since the weights may have changed."""
        self._fingerprint = None

    def embed(
        self, model: DifferenceCLIP, images: Sequence[ImageFile], name: str, *, store: bool
    ) -> tuple[Tensor, list[int]]:
        """Return unit embeddings of the intact images.

        Every process must call this within `evaluating`, and gets the same result.

        Args:
            model: The model.
            images: N images.
            name: Name for the progress bar and messages.
            store: Whether to use the cache on disk.

        Returns:
            Embeddings (M, D) on the model's device, and the indices into `images` of the M intact images.

        Raises:
            ValueError: All images are damaged.
        """
        if self._fingerprint is None:  # rank 0 decides for all, so that either all ranks encode or none
            self._fingerprint = broadcast(model.image_fingerprint if rank() == 0 else "")
        if self._fingerprint != self._made_by:
            self._rows.clear()
            self._made_by = self._fingerprint
        if missing := [image for image in dict.fromkeys(images) if image not in self._rows]:
            self._add(model, missing, name, self.cache_dir if store else None)
        rows = [self._rows[image] for image in images]
        intact = [row for row in rows if row is not None]
        if not intact:
            raise ValueError(f"all {len(images)} images are damaged; make or copy them again")
        return torch.stack(intact).to(model.device), [index for index, row in enumerate(rows) if row is not None]

    def _add(self, model: DifferenceCLIP, missing: list[ImageFile], name: str, cache_dir: str | None) -> None:
        embeddings = torch.zeros(len(missing), model.embed_dim)
        intact = torch.zeros(len(missing), dtype=torch.bool)
        store = None
        if cache_dir is not None:
            if rank() == 0:  # only rank 0 reads the cache
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
                f"{name}: {len(damaged)} of {len(missing)} images are damaged and excluded: "
                + ", ".join(f"{image.key} in {image.path}" for image in damaged[:5])
            )

    def _encode(self, model: DifferenceCLIP, images: Sequence[ImageFile], name: str) -> tuple[Tensor, Tensor]:
        """Encode N images; each process encodes a strided share of them.

        Returns:
            Unit embeddings (N, D) on the CPU, zeros for damaged images, and which images are intact, (N,) bool.
        """
        processes, count = world_size(), len(images)
        share = -(-count // processes)  # padded, because a gather needs equal shapes
        embeddings = torch.zeros(share, model.embed_dim, device=model.device)
        intact = torch.zeros(share, device=model.device)
        own = [(place, images[number]) for place, number in enumerate(range(rank(), count, processes))]
        hidden = not self.progress or rank() > 0
        with tqdm(total=len(own), desc=f"encoding {name}", delay=3, leave=False, disable=hidden) as bar:
            for batch in encode_pictures(model, own, batch_size=self.batch_size, workers=self.num_workers):
                places = batch.places.to(model.device)
                embeddings[places], intact[places] = batch.embeddings.to(model.device), 1
                bar.update(len(batch.places) + len(batch.unreadable))
        # image i has index i // processes on rank i % processes
        ordered = gather(embeddings).transpose(0, 1).reshape(processes * share, -1)[:count]
        return ordered.cpu(), gather(intact).T.reshape(-1)[:count].cpu() > 0
