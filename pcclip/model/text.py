"""Tokenise and encode texts without the cost of padding.

A causal text tower that is pooled at the end-of-text token ignores all later tokens, so padding can be trimmed before
encoding: the same numbers for a fraction of the work. A batch is sorted by length and encoded in chunks, each as long as its
longest text. The last block runs for the end-of-text tokens only. Other towers (SigLIP, CoCa, BERT-like) are encoded at full
length by their own code.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from open_clip.model import CLIP
from open_clip.transformer import CustomResidualAttentionBlock, ResidualAttentionBlock, TextTransformer
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pcclip.model.chunks import cut, forgetful, in_chunks
from pcclip.model.word_tokens import by_words

# Fixed cost of a chunk in tokens: small chunks do not fill the device.
CHUNK_COST = {"cpu": 64, "cuda": 4096}
KEPT_TEXTS = 50_000  # 30 MB of token ids
KEPT_EMBEDDINGS = 200_000  # of texts; 600 MB at width 768
# Names of the list of blocks in a text tower: open_clip's, and those of Hugging Face's text models.
TEXT_BLOCKS = (
    "transformer.resblocks",
    "transformer.encoder.layer",  # BERT, RoBERTa
    "transformer.layers",  # M2M-100
    "transformer.block",  # mT5
)


def text_tower(clip: Any) -> Any:
    """Return the module that holds the text tower's parts: `clip.text` if there is one, else `clip` itself."""
    return clip if isinstance(clip, CLIP) else clip.text


def text_blocks(clip: Any) -> list[nn.Module]:
    """Return the blocks of the text tower; none if it is not built of blocks with a known name."""
    modules = dict(text_tower(clip).named_modules(remove_duplicate=False))
    return next((list(modules[place].children()) for place in TEXT_BLOCKS if place in modules), [])


def text_parameters(clip: Any) -> list[nn.Parameter]:
    """Return the weights of the text tower."""
    tower = text_tower(clip)
    if tower is not clip:
        return list(tower.parameters())
    # Plain CLIP keeps the text tower's parts at its top level, next to the image tower and the scale.
    outside = {id(value) for value in (*clip.visual.parameters(), clip.logit_scale, clip.logit_bias)}
    return [value for value in clip.parameters() if id(value) not in outside]


def pooling(clip: Any) -> tuple[str, int | None]:
    """Return pooling type and end-of-text id of the text tower, as open_clip names them; (`""`, None) if unknown."""
    tower = text_tower(clip)
    if isinstance(tower, CLIP):
        return tower.text_pool_type, tower.text_eos_id
    if isinstance(tower, TextTransformer):
        return tower.pool_type, tower.eos_id
    return "", None


def is_trimmable(clip: Any) -> bool:
    """Return whether texts may be trimmed after their end-of-text token without changing any number."""
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

    It holds no weights, so data workers can hold it. CLIP's own tokenizer runs word by word (see `by_words`). For other
    tokenizers the ids of texts are cached, since texts recur every epoch.

    Attributes:
        tokenize: open_clip's tokenizer, which pads to the context length.
    """

    def __init__(
        self,
        tokenize: Callable[..., Tensor],
        *,
        trim: bool,
        pool_type: str = "argmax",
        eos_id: int | None = None,
    ) -> None:
        self.tokenize = tokenize
        self._trim = trim
        self._pool_type = pool_type
        self._eos_id = eos_id
        self._known: dict[str, Tensor] = {}
        self._by_words = by_words(tokenize)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return token ids (N, L). L is the context length or, if trimmed, that of the longest text. Without texts: (0, 1)."""
        if not texts:
            return torch.zeros(0, 1, dtype=torch.long)
        if self._trim and self._by_words is not None:
            return self._by_words(texts)
        tokens = self._rows(texts)
        if not self._trim:
            return tokens
        ends = end_of_text(tokens, self._pool_type, self._eos_id)
        return tokens[:, : int(ends.max()) + 1]

    def fits(self, text: str) -> bool:
        """Return whether the whole text fits into the context. What does not fit is cut off."""
        tokens = self.tokenize([text])
        length = tokens.shape[1]
        # A token has at least one byte. If all tokens fit, a longer context gives the same tokens.
        short = len(text.encode()) + 2 <= length
        return short or torch.equal(tokens, self.tokenize([text], context_length=length + 8)[:, :length])

    def _rows(self, texts: Sequence[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        fresh = dict(zip(new, self.tokenize(new), strict=True)) if new else {}
        if len(self._known) + len(fresh) <= KEPT_TEXTS:
            self._known |= fresh
        return torch.stack([fresh[text] if text in fresh else self._known[text] for text in texts])


class KnownTexts:
    """Table of text embeddings, so that a frozen text tower encodes each text once.

    It is cleared when the weights of the tower change, and when it is full.
    """

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
        if weights != self._weights or len(self._places) + len(texts) > KEPT_EMBEDDINGS:
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


def end_of_text(tokens: Tensor, pool_type: str, eos_id: int | None) -> Tensor:
    """Return the position of the end of each text, (N,), in token ids (N, L), by open_clip's rule: `argmax` or `eos`."""
    is_end = tokens if pool_type == "argmax" else torch.eq(tokens, eos_id or 0).int()
    return is_end.argmax(-1)


def stacked(*batches: Tensor) -> Tensor:
    """Stack token ids (N, L) of different lengths L, padded to the longest."""
    length = max(tokens.shape[1] for tokens in batches)
    return torch.cat([F.pad(tokens, (0, length - tokens.shape[1])) for tokens in batches])


def encode_tokens(clip: Any, tokens: Tensor, *, chunk_size: int | None = None, multiple: int = 1) -> Tensor:
    """Encode token ids (N, L) to text embeddings (N, D), not normalised.

    L may be shorter than the context length if `is_trimmable(clip)`. The embedding of a text does not depend on the batch.

    Args:
        clip: The open_clip model.
        tokens: Token ids (N, L).
        chunk_size: Maximum number of texts whose activations are kept at once (see `in_chunks`).
        multiple: Pad chunks to a multiple of this number of tokens, so that compiled code sees few shapes.
    """
    if not is_trimmable(clip):
        return in_chunks(clip.encode_text, tokens, chunk_size)
    tower = text_tower(clip)
    context = tower.attn_mask.shape[0]
    tokens = F.pad(tokens, (0, min(context, _rounded(tokens.shape[1], multiple)) - tokens.shape[1]))
    dtype = tower.transformer.get_cast_dtype()
    # Look up each token once, since the gradient of each look-up is as large as the table.
    ids, words = torch.unique(tokens, return_inverse=True)
    vocabulary = tower.token_embedding(ids).to(dtype)
    ends, order = end_of_text(tokens, *pooling(clip)).sort(stable=True)

    def encode(rows: Tensor, ends: Tensor, length: int) -> Tensor:
        x = F.embedding(words[rows, :length], vocabulary) + tower.positional_embedding[:length].to(dtype)
        return _last_states(tower.transformer, x, tower.attn_mask[:length, :length], ends)

    lengths = [min(context, _rounded(end + 1, multiple)) for end in ends.tolist()]
    sizes = cut(lengths, CHUNK_COST.get(tokens.device.type, CHUNK_COST["cuda"]), chunk_size)
    longest = [lengths[last - 1] if last else 0 for last in accumulate(sizes)]
    parts = map(forgetful(encode, chunk_size), torch.split(order, sizes), torch.split(ends, sizes), longest)
    pooled = torch.cat(list(parts))[order.argsort()]
    # Pool before the final norm. The result is the same, since the norm treats each token separately.
    embeddings: Tensor = tower.ln_final(pooled)
    if isinstance(tower.text_projection, nn.Linear):
        embeddings = tower.text_projection(embeddings)
    elif tower.text_projection is not None:
        embeddings = embeddings @ tower.text_projection
    return embeddings


def _rounded(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _last_states(transformer: Any, x: Tensor, mask: Tensor, ends: Tensor) -> Tensor:
    """Return the last hidden states (N, W) of inputs (N, L, W) at the positions `ends` (N,). The mask is (L, L)."""

    def run(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        if transformer.grad_checkpointing:
            output: Tensor = checkpoint(function, *inputs, use_reentrant=False)
            return output
        return function(*inputs)

    *blocks, last = transformer.resblocks
    for block in blocks:
        x = run(partial(block, attn_mask=mask), x)
    return run(partial(_end_states, last), x, mask, ends)


def _end_states(block: Any, x: Tensor, mask: Tensor, ends: Tensor) -> Tensor:
    """Return the outputs (N, W) of a block at the positions `ends`, without computing the others where possible."""
    rows = torch.arange(len(x), device=x.device)
    if isinstance(block, ResidualAttentionBlock):
        # Cross-attention from the ends to all tokens. open_clip expects the norm of keys and values under this name. It is not
        # registered as a submodule, so that it is not saved twice.
        object.__setattr__(block, "ln_1_kv", block.ln_1)
        seen = mask[ends].repeat_interleave(block.attn.num_heads, 0)
        state: Tensor = block(x[rows, ends].unsqueeze(1), x, x, seen.unsqueeze(1))
        return state.squeeze(1)
    if type(block) is CustomResidualAttentionBlock:  # FSDP makes it a subclass, which must be called as a whole
        attended = block.attn(block.ln_1(x), attn_mask=mask)[rows, ends]
        state = x[rows, ends] + block.ls_1(block.ln_attn(attended))
        return state + block.ls_2(block.mlp(block.ln_2(state)))
    states: Tensor = block(x, attn_mask=mask)
    return states[rows, ends]
