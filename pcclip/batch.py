"""What flows from the data to the model: one batch of images and ordered pairs among them."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from pcclip.data.damage import Damage


class PairRow(NamedTuple):
    """Where an ordered pair of a batch comes from.

    Attributes:
        shards: The shard folder, as the settings name it.
        group: Key of the group.
        first: Id of the first image.
        second: Id of the second image.
        text: The text that describes first against second.
        reverse: Place in the batch of the reversed pair with its text; None if there is none.
    """

    shards: str
    group: str
    first: str
    second: str
    text: str
    reverse: int | None


class PairBatch(NamedTuple):
    """B unique images, P ordered pairs that share them, and C captions.

    Exactly one of `images` and `embeddings` is there. P and C are the same in every training batch of a run, on every rank.
    Held-out batches differ in size. An empty one, without either, keeps ranks in step that have fewer batches than others.

    Attributes:
        images: (B, 3, H, W) uint8.
        embeddings: (B, D) float32, unit: what a frozen image tower made of the images.
        image_ids: (B,) int64, hash of each image's dataset and id: equal for the same picture in another group or rank.
        first: (P,) indices into B.
        second: (P,) indices into B.
        tokens: (P, L) token ids of the texts that describe first against second.
        captioned: (C,) indices into B.
        caption_tokens: (C, L') token ids of one caption for each of `captioned`.
        damaged: What had to be left out where this batch was drawn.
        rows: For predictions, where each of the P pairs comes from.
        roleless: With `role_swap: twins`, pairs of its groups whose texts have no role words.
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
