"""Tokenising and encoding texts at the length of the longest text in the batch.

A causal text tower that is pooled at the end-of-text token never looks at what follows that token, so the padding can be
cut off before encoding: same numbers, a fraction of the work. Other towers (SigLIP, CoCa, BERT-like) are encoded at full
length by their own code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn


def text_tower(clip: Any) -> Any:
    """The module that holds the text tower's parts: `clip.text` where there is one, else `clip` itself."""
    return clip.text if isinstance(clip, CustomTextCLIP) else clip


def pooling(clip: Any) -> tuple[str, int | None]:
    """Pooling type and end-of-text id of the text tower, as open_clip names them; (`""`, None) when unknown."""
    tower = text_tower(clip)
    if isinstance(tower, CLIP):
        return tower.text_pool_type, tower.text_eos_id
    if isinstance(tower, TextTransformer):
        return tower.pool_type, tower.eos_id
    return "", None


def is_trimmable(clip: Any) -> bool:
    """Whether texts may be cut after their end-of-text token without changing any number."""
    tower = text_tower(clip)
    return (
        isinstance(tower, CLIP | TextTransformer)
        and getattr(tower, "attn_mask", None) is not None
        and getattr(tower, "cls_emb", None) is None
        and not getattr(tower, "use_pad_mask", False)
        and pooling(clip)[0] in ("argmax", "eos")
    )


class Tokenizer:
    """Texts to token ids, trimmed to the longest text when the tower allows it.

    It holds no weights, so data workers can carry it.
    """

    def __init__(
        self,
        tokenize: Callable[[list[str]], Tensor],
        *,
        trim: bool,
        pool_type: str = "argmax",
        eos_id: int | None = None,
    ) -> None:
        self._tokenize = tokenize
        self._trim = trim
        self._pool_type = pool_type
        self._eos_id = eos_id

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids (N, L), L the context length or, trimmed, the length of the longest text; (0, 1) without texts."""
        if not texts:
            return torch.zeros(0, 1, dtype=torch.long)
        tokens = self._tokenize(list(texts))
        if not self._trim:
            return tokens
        # The same rule as open_clip's pooling: the end-of-text token is the highest id, or a given one.
        is_end = tokens if self._pool_type == "argmax" else torch.eq(tokens, self._eos_id or 0).int()
        ends = is_end.argmax(-1)
        return tokens[:, : int(ends.max()) + 1]


def encode_tokens(clip: Any, tokens: Tensor) -> Tensor:
    """Token ids (N, L) to text embeddings (N, D), not normalised.

    L may be shorter than the context length when `is_trimmable(clip)`. open_clip's own `encode_text` adds the whole
    position table and uses the full attention mask, so both are sliced here.
    """
    if not is_trimmable(clip):
        features: Tensor = clip.encode_text(tokens)
        return features
    tower = text_tower(clip)
    length = tokens.shape[1]
    dtype = tower.transformer.get_cast_dtype()
    x = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:length].to(dtype)
    x = tower.transformer(x, attn_mask=tower.attn_mask[:length, :length])
    pool_type, eos_id = pooling(clip)
    # Pooling before the final norm is the same as after it, since the norm acts on each token alone.
    x = tower.ln_final(text_global_pool(x, tokens, pool_type, eos_token_id=eos_id))
    if isinstance(tower.text_projection, nn.Linear):
        x = tower.text_projection(x)
    elif tower.text_projection is not None:
        x = x @ tower.text_projection
    embeddings: Tensor = x
    return embeddings
