"""Tokenising and encoding texts without paying for their padding.

A causal text tower that is pooled at the end-of-text token never looks at what follows that token, so the padding can be
cut off before encoding: same numbers, a fraction of the work. A large batch is sorted by length and encoded in chunks, each
as long as its own longest text. Other towers (SigLIP, CoCa, BERT-like) are encoded at full length by their own code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn

from pcclip.model.word_tokens import by_words

# A batch is cut into chunks of at least so many tokens, padding included: smaller ones would not fill the device.
LEAST_CHUNK = {"cpu": 512, "cuda": 16384}
MAX_CHUNKS = 4  # what more would save is little
KEPT_TEXTS = 50_000  # 30 MB of token ids


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

    It holds no weights, so data workers can carry it. CLIP's own tokenizer is run word by word (see `by_words`); for others
    the ids of texts are kept, since texts come again every epoch.
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
        self._known: dict[str, Tensor] = {}
        self._by_words = by_words(tokenize)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids (N, L), L the context length or, trimmed, the length of the longest text; (0, 1) without texts."""
        if not texts:
            return torch.zeros(0, 1, dtype=torch.long)
        if self._trim and self._by_words is not None:
            return self._by_words(texts)
        tokens = self._rows(texts)
        if not self._trim:
            return tokens
        ends = end_of_text(tokens, self._pool_type, self._eos_id)
        return tokens[:, : int(ends.max()) + 1]

    def _rows(self, texts: Sequence[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        fresh = dict(zip(new, self._tokenize(new), strict=True)) if new else {}
        if len(self._known) + len(fresh) <= KEPT_TEXTS:
            self._known |= fresh
        return torch.stack([fresh[text] if text in fresh else self._known[text] for text in texts])


def end_of_text(tokens: Tensor, pool_type: str, eos_id: int | None) -> Tensor:
    """Where each text of (N, L) ends, (N,), by open_clip's rule: at the highest id (`argmax`), or at a given one (`eos`)."""
    is_end = tokens if pool_type == "argmax" else torch.eq(tokens, eos_id or 0).int()
    return is_end.argmax(-1)


def encode_tokens(clip: Any, tokens: Tensor) -> Tensor:
    """Token ids (N, L) to text embeddings (N, D), not normalised.

    L may be shorter than the context length when `is_trimmable(clip)`. Each text's embedding is the same, whatever stands
    beside it.
    """
    if not is_trimmable(clip):
        features: Tensor = clip.encode_text(tokens)
        return features
    tower = text_tower(clip)
    dtype = tower.transformer.get_cast_dtype()
    # Looked up once: the gradient of each look-up is as large as the table.
    x = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[: tokens.shape[1]].to(dtype)
    pool_type, eos_id = pooling(clip)

    def encode(rows: Tensor | slice, length: int) -> Tensor:
        out = tower.transformer(x[rows, :length], attn_mask=tower.attn_mask[:length, :length])
        pooled: Tensor = text_global_pool(out, tokens[rows, :length], pool_type, eos_token_id=eos_id)
        return pooled

    least = LEAST_CHUNK.get(tokens.device.type, LEAST_CHUNK["cuda"])
    chunks = min(MAX_CHUNKS, tokens.numel() // least)
    if chunks < 2:
        pooled = encode(slice(None), tokens.shape[1])
    else:
        lengths, order = (end_of_text(tokens, pool_type, eos_id) + 1).sort(stable=True)
        longest = [int(part[-1]) for part in lengths.cpu().tensor_split(chunks)]
        parts = map(encode, order.tensor_split(chunks), longest)
        pooled = torch.cat(list(parts))[order.argsort()]
    # Pooling before the final norm is the same as after it, since the norm acts on each token alone.
    embeddings: Tensor = tower.ln_final(pooled)
    if isinstance(tower.text_projection, nn.Linear):
        embeddings = tower.text_projection(embeddings)
    elif tower.text_projection is not None:
        embeddings = embeddings @ tower.text_projection
    return embeddings
