"""Cache of text embeddings: a frozen text tower encodes each text once."""

from collections.abc import Callable, Hashable

import torch
from torch import Tensor

KEPT_TEXTS = 200_000  # 600 MB of embeddings of width 768


class KnownTexts:
    """Table of text embeddings. It is cleared when the weights of the tower change, and when it is full."""

    def __init__(self) -> None:
        self._weights: Hashable = None
        self._places: dict[bytes, int] = {}
        self._table = torch.empty(0, 0)

    def embed(self, tokens: Tensor, encode: Callable[[Tensor], Tensor], weights: Hashable) -> Tensor:
        """Return embeddings (N, D) of token ids (N, L), without gradients.

        Args:
            tokens: Token ids (N, L).
            encode: Computes the embeddings of new texts.
            weights: Identifies the tower's weights and precision.
        """
        # Trailing zeros are padding. Keys are the bytes, since a collision of hashes would give a wrong embedding.
        texts = [row.tobytes().rstrip(b"\0") for row in tokens.cpu().numpy()]
        if weights != self._weights or len(self._places) + len(texts) > KEPT_TEXTS:
            self._weights = weights
            self._places.clear()
        new = {text: row for row, text in enumerate(texts) if text not in self._places}
        if new:
            with torch.no_grad():
                self._add(list(new), encode(tokens[list(new.values())]))
        return self._table[torch.tensor([self._places[text] for text in texts], device=self._table.device)]

    def _add(self, texts: list[bytes], embeddings: Tensor) -> None:
        begin = len(self._places)
        if not begin:
            self._table = embeddings.new_empty(0, embeddings.shape[1])
        with torch.inference_mode(False):  # training cannot use inference tensors, which validation would add
            if (needed := begin + len(texts)) > len(self._table):
                grown = torch.empty(2 * needed, embeddings.shape[1], dtype=embeddings.dtype, device=embeddings.device)
                grown[:begin] = self._table[:begin]
                self._table = grown
            self._table[begin:needed] = embeddings
        self._places.update(zip(texts, range(begin, needed), strict=True))
