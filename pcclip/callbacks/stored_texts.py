"""Text embeddings kept from run to run, for evaluations that are repeated with the same weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pcclip.atomic import atomic_path
from pcclip.callbacks.embeddings import EvaluatedModel


class StoredTexts:
    """An `Encoder` that encodes each text once, for all runs with the same text tower.

    Texts and embeddings are in one file for each tower, whose name is a hash of its weights: another model never meets
    them.

    Args:
        model: Encodes what is not kept.
        cache_dir: The folder to keep them in.
    """

    def __init__(self, model: EvaluatedModel, cache_dir: str | Path) -> None:
        self._model = model
        self._file = Path(cache_dir) / f"texts-{model.text_fingerprint[:32]}.npz"
        self._rows: dict[str, Tensor] = {}
        self._fresh = False
        if self._file.is_file():
            with np.load(self._file, allow_pickle=False) as stored:
                texts = json.loads(stored["texts"].tobytes().decode("utf-8"))
                rows = zip(texts, torch.from_numpy(stored["embeddings"]), strict=True)
                self._rows = {text: row for text, row in rows if bool(row.isfinite().all())}

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Texts to unit embeddings (N, D) in float32."""
        if missing := [text for text in dict.fromkeys(texts) if text not in self._rows]:
            embedded = self._model.encode_texts(missing)
            self._rows.update(zip(missing, embedded.float().cpu(), strict=True))
            self._fresh = True
        return torch.stack([self._rows[text] for text in texts]).to(self._model.device)

    def encode_images(self, images: Tensor) -> Tensor:
        """The model's own."""
        return self._model.encode_images(images)

    def difference(self, first: Tensor, second: Tensor) -> Tensor:
        """The model's own."""
        return self._model.difference(first, second)

    def project(self, differences: Tensor) -> Tensor:
        """The model's own."""
        return self._model.project(differences)

    def save(self) -> None:
        """Keep what is new, in one step, so that no run reads half a file."""
        if not self._fresh:
            return
        texts = np.frombuffer(json.dumps(list(self._rows)).encode("utf-8"), dtype=np.uint8)
        with atomic_path(self._file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, texts=texts, embeddings=torch.stack(list(self._rows.values())).numpy())
        self._fresh = False
