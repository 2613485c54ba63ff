"""An encoder whose texts are given as a table of embeddings."""

from collections.abc import Callable, Mapping, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize


class TableEncoder:
    """Texts from a table (unknown ones drawn at random by their hash), differences through a linear head."""

    def __init__(self, width: int = 16, texts: Mapping[str, Tensor] | None = None, head: Tensor | None = None) -> None:
        self.width = width
        self.texts = dict(texts or {})
        self.head = torch.eye(width) if head is None else head

    def encode_images(self, images: Tensor) -> Tensor:
        raise NotImplementedError("the images are embedded already")

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        for text in texts:
            if text not in self.texts:
                seed = sum(place * ord(letter) for place, letter in enumerate(text, start=1))
                self.texts[text] = torch.randn(self.width, generator=torch.Generator().manual_seed(seed))
        return normalize(torch.stack([self.texts[text] for text in texts]), dim=-1)

    def project(self, differences: Tensor) -> Tensor:
        return differences @ self.head.T

    def difference(self, first: Tensor, second: Tensor) -> Tensor:
        return normalize(self.project(first - second), dim=-1)


@pytest.fixture
def make_encoder() -> Callable[..., TableEncoder]:
    """Makes table encoders."""
    return TableEncoder


@pytest.fixture
def images() -> Tensor:
    """Unit embeddings of 40 images, (40, 16)."""
    return normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(3)), dim=-1)
