"""The batch that the data module gives to the model: images, and ordered pairs of them."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from pcclip.data.damage import Damage


class PairRow(NamedTuple):
    """Origin of an ordered pair.

    Attributes:
        shards: Shard folder, as named in the settings.
        group: Key of the group.
        first: Id of the first image.
        second: Id of the second image.
        text: Text that describes first against second.
        reverse: Index in the batch of the reversed pair; None without one.
    """

    shards: str
    group: str
    first: str
    second: str
    text: str
    reverse: int | None


class PairBatch(NamedTuple):
    """B unique images, P ordered pairs that share them, and C captions.

    Either `images` or `embeddings` is set. P and C are the same in all training batches of a run, on all ranks. Held-out
    batches differ in size. A rank with fewer held-out batches than others gets empty ones, with neither images nor embeddings.

    Attributes:
        images: (B, 3, H, W) uint8.
        embeddings: (B, D) float32, unit embeddings of the images by a frozen image tower.
        image_ids: (B,) int64, hash of each image's dataset and id. The same picture has the same hash in all groups and ranks.
        first: (P,) indices into B.
        second: (P,) indices into B.
        tokens: (P, L) token ids of the texts that describe first against second.
        captioned: (C,) indices into B.
        caption_tokens: (C, L') token ids of one caption for each of `captioned`.
        damaged: Damage that was skipped while this batch was drawn.
        rows: For predictions, origin of each of the P pairs.
        roleless: With `role_swap: twins`, number of pairs in its groups whose texts have no role words.
    """

    images: Tensor | None
    embeddings: Tensor | None
    image_ids: Tensor
    first: Tensor
    second: Tensor
    tokens: Tensor
    captioned: Tensor
    caption_tokens: Tensor
    damaged: Sequence[Damage] = ()
    rows: Sequence[PairRow] = ()
    roleless: int = 0
