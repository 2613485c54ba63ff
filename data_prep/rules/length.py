"""Count the tokens of a text tower, and cut longer texts at the end of a sentence."""

import gzip
import json
import re
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from itertools import islice, pairwise
from pathlib import Path

from data_prep.rules.words import WORDS_KEPT

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
MERGES = 49152 - 256 - 2  # of CLIP's vocabulary, minus the bytes and the ends
_STRAIGHT = str.maketrans("\u2018\u2019\u201c\u201d", "''\"\"")  # as open_clip straightens them
_CLIP_TOKEN = re.compile(r"'(?:s|t|re|ve|m|ll|d)|[^\W\d_]+|\d|(?:[^\s\w]|_)+")


class TokenCounter:
    """Token counter for a text tower, with start and end tokens.

    CLIP's own tokenizer is counted without torch, which would need about 650 MB in each process.

    Args:
        model: Model with the tokenizer: an open_clip name, `local-dir:FOLDER` or `hf-hub:NAME`.

    Attributes:
        context_length: Maximum number of tokens. The tower ignores the rest.

    Raises:
        ValueError: Unknown model, or a tokenizer that cannot be loaded.
    """

    def __init__(self, model: str) -> None:
        self._count: Callable[[str], int]
        plain = _plain_context_length(model)
        if plain is not None:
            self.context_length, self._count, self._ends = plain, BytePairs().count, 2
        else:
            self.context_length, self._count, self._ends = _other_tokenizer(model)

    def count(self, text: str) -> int:
        """Return the number of tokens of a text."""
        return self._count(text) + self._ends

    def shorten(self, text: str, limit: int) -> str:
        """Return the first sentences that have at most `limit` tokens together. Empty if the first is too long."""
        sentences = _SENTENCE_END.split(text)
        fitting = 0
        while fitting < len(sentences) and self.count(" ".join(sentences[: fitting + 1])) <= limit:
            fitting += 1
        return " ".join(sentences[:fitting])


class BytePairs:
    """Token counts of CLIP's tokenizer, from the list of merges that open_clip ships."""

    def __init__(self) -> None:
        with gzip.open(_open_clip() / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as stream:
            next(stream)  # a comment
            self._ranks = {line.rstrip("\n"): rank for rank, line in enumerate(islice(stream, MERGES))}
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in printable]
        self._letters = {byte: chr(byte) for byte in printable}
        self._letters.update((byte, chr(256 + place)) for place, byte in enumerate(others))
        self._of_word = lru_cache(WORDS_KEPT)(self._count_word)

    def count(self, text: str) -> int:
        """Return the number of tokens, without start and end tokens."""
        if not text.isascii():
            text = text.translate(_STRAIGHT)
        return sum(map(self._of_word, _CLIP_TOKEN.findall(text.lower())))

    def _count_word(self, word: str) -> int:
        parts = [self._letters[byte] for byte in word.encode("utf-8", "replace")]
        parts[-1] += "</w>"
        while len(parts) > 1:
            pairs = [f"{one} {two}" for one, two in pairwise(parts)]
            best = min(pairs, key=lambda pair: self._ranks.get(pair, MERGES))
            if best not in self._ranks:
                break
            merged, index = [], 0
            while index < len(parts):
                joined = index < len(pairs) and pairs[index] == best
                merged.append(parts[index] + parts[index + 1] if joined else parts[index])
                index += 1 + joined
            parts = merged
        return len(parts)


def _open_clip() -> Path:
    """Return the folder of the package, without importing it."""
    spec = find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("open_clip is not installed; install the package open_clip_torch")
    return Path(spec.submodule_search_locations[0])


def _plain_context_length(model: str) -> int | None:
    """Return the context length of a model with CLIP's own tokenizer, or None for any other."""
    config = _open_clip() / "model_configs" / f"{model.replace('/', '-')}.json"
    if ":" in model or not config.is_file():
        return None
    text = json.loads(config.read_text(encoding="utf-8"))["text_cfg"]
    if any(name in text for name in ("hf_tokenizer_name", "tokenizer_kwargs", "tokenizer_mode")):
        return None
    return int(text.get("context_length", 77))


def _other_tokenizer(model: str) -> tuple[int, Callable[[str], int], int]:
    """Return context length, counting function and number of start and end tokens of a tokenizer that open_clip loads."""
    import open_clip

    if ":" not in model and open_clip.get_model_config(model.replace("/", "-")) is None:
        raise ValueError(f"screen.tokenizer: unknown model {model!r}; give an open_clip name, e.g. ViT-L-14")
    try:
        tokenizer = open_clip.get_tokenizer(model)
    except (OSError, RuntimeError) as error:  # files that are missing, a download that failed
        raise ValueError(f"screen.tokenizer: {model}: cannot be loaded: {error}") from error
    length = int(tokenizer.context_length)
    if hasattr(tokenizer, "encode"):
        return length, lambda text: len(tokenizer.encode(text)), 2
    return length, lambda text: len(tokenizer.tokenizer.encode(text)), 0  # Hugging Face adds its own ends
