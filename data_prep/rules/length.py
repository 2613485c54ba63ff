"""Length in the text tower's own tokens, and cutting what is longer than it reads."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

import open_clip

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
# Words are counted one by one and remembered, which is many times faster; near the limit the whole text is tokenised.
NEAR = 0.8


class TokenCounter:
    """Counts tokens as a text tower does, those of begin and end included.

    Args:
        model: The model whose tokenizer it is: an open_clip name, `local-dir:FOLDER` or `hf-hub:NAME`.

    Attributes:
        context_length: Tokens that the tower reads; what goes beyond is lost.

    Raises:
        ValueError: Unknown model, or a tokenizer that cannot be loaded.
    """

    def __init__(self, model: str) -> None:
        if ":" not in model and open_clip.get_model_config(model.replace("/", "-")) is None:
            raise ValueError(f"screen.tokenizer: unknown model {model!r}; give an open_clip name, e.g. ViT-L-14")
        try:
            tokenizer = open_clip.get_tokenizer(model)
        except (OSError, RuntimeError) as error:  # files that are missing, a download that failed
            raise ValueError(f"screen.tokenizer: {model}: cannot be loaded: {error}") from error
        self.context_length = int(tokenizer.context_length)
        self._ids: Callable[[str], list[int]]
        if hasattr(tokenizer, "encode"):
            self._ids, self._ends = tokenizer.encode, 2
        else:  # a Hugging Face tokenizer, which adds its own ends
            self._ids, self._ends = tokenizer.tokenizer.encode, 0
        self._of_word = lru_cache(maxsize=1 << 17)(lambda word: len(self._ids(word)))

    def count(self, text: str) -> int:
        """Tokens of a text."""
        return len(self._ids(text)) + self._ends

    def fits(self, text: str, limit: int) -> bool:
        """Whether a text has at most `limit` tokens."""
        if sum(map(self._of_word, text.split())) + self._ends <= NEAR * limit:
            return True
        return self.count(text) <= limit

    def shorten(self, text: str, limit: int) -> str:
        """The longest beginning of at most `limit` tokens that ends with a sentence, or else with a word."""
        for pieces in (_SENTENCE_END.split(text), text.split()):
            fitting = 0
            while fitting < len(pieces) and self.count(" ".join(pieces[: fitting + 1])) <= limit:
                fitting += 1
            if fitting:
                return " ".join(pieces[:fitting])
        return ""
