"""CLIP's tokenizer with a cache of words: the same ids in a fraction of the time.

CLIP's byte pairs never cross white space, so the ids of a text are those of its words, and words recur. open_clip spends most
of its time cleaning texts, which changes nothing in printable ASCII without HTML entities.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer, get_clean_fn
from torch import Tensor

KEPT_WORDS = 200_000  # tens of megabytes


def by_words(tokenizer: Any) -> Callable[[Sequence[str]], Tensor] | None:
    """Return a function from texts to token ids (N, L), trimmed to the longest text; None if tokens may span words."""
    if type(tokenizer) is not SimpleTokenizer or tokenizer.clean_fn is not get_clean_fn("lower"):
        return None
    # More special tokens are patterns, which may match white space.
    if tokenizer.reduction_fn is not None or len(tokenizer.all_special_ids) > 2:
        return None
    return WordTokens(tokenizer)


class WordTokens:
    """Tokenizer with a cache of the ids of each word.

    Args:
        tokenizer: open_clip's tokenizer, for new words and for texts that are not plain ASCII.
    """

    def __init__(self, tokenizer: SimpleTokenizer) -> None:
        self._tokenizer = tokenizer
        self._words: dict[str, list[int]] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return token ids (N, L): start, text, end, zeros. Cut texts to the context length as open_clip does."""
        start, end = self._tokenizer.sot_token_id, self._tokenizer.eot_token_id
        longest = self._tokenizer.context_length - 2
        rows = [[start, *self._ids(text)[:longest], end] for text in texts]
        tokens = np.zeros((len(rows), max(map(len, rows))), np.int64)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = row
        return torch.from_numpy(tokens)

    def _ids(self, text: str) -> list[int]:
        if not (text.isascii() and text.isprintable()) or "&" in text:
            whole: list[int] = self._tokenizer.encode(text)
            return whole
        ids: list[int] = []
        words = self._words
        for word in text.split():
            known = words.get(word)
            if known is None:
                known = self._tokenizer.encode(word)
                if len(words) < KEPT_WORDS:
                    words[word] = known
            ids += known
        return ids
