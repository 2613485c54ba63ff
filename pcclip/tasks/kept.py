"""Caches of what is slow to compute: metrics of fitted probes, and embeddings of texts."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from torch import Tensor

from pcclip.atomic import atomic_path, atomic_text
from pcclip.metrics.protocol import Metric
from pcclip.model.clip import DifferenceCLIP


class KeptMetrics:
    """Cache of metrics by the hash of all their inputs, in memory and optionally on disk."""

    def __init__(self, cache_dir: str | None = None) -> None:
        self.cache_dir = cache_dir
        self._kept: dict[str, list[Metric]] = {}

    def get(
        self, tensors: Sequence[Tensor], settings: Sequence[Any], measure: Callable[[], list[Metric]], store: bool
    ) -> list[Metric]:
        """Return cached metrics for equal tensors and settings. Call `measure` if there are none.

        Args:
            tensors: All tensors that `measure` reads.
            settings: All other inputs of `measure`, of JSON types: a name, options, versions of libraries.
            measure: Computes the metrics.
            store: Whether to use the cache on disk (`metrics-<hash>.json`).
        """
        key = joblib.hash([json.dumps(settings), *(tensor.detach().cpu().contiguous().numpy() for tensor in tensors)])
        if key in self._kept:
            return self._kept[key]
        file = Path(self.cache_dir) / f"metrics-{key}.json" if store and self.cache_dir is not None else None
        metrics = None if file is None else _read(file)
        if metrics is None:
            metrics = measure()
            if file is not None:
                with atomic_text(file) as stream:
                    json.dump([asdict(metric) for metric in metrics], stream)
        self._kept[key] = metrics
        return metrics


def _read(file: Path) -> list[Metric] | None:
    """Read metrics from a file. Return None if it is missing or damaged."""
    try:
        return [Metric(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
    except (FileNotFoundError, ValueError, TypeError):
        return None


class StoredTexts:
    """Encoder with a cache of text embeddings on disk, in one file for each text tower.

    Args:
        model: Model that encodes new texts.
        cache_dir: Folder of the file. The name of the file is a hash of the tower's weights.
    """

    def __init__(self, model: DifferenceCLIP, cache_dir: str | Path) -> None:
        self._model = model
        self._file = Path(cache_dir) / f"texts-{model.text_fingerprint[:32]}.npz"
        self._rows: dict[str, Tensor] = {}
        self._is_new = False
        if self._file.is_file():
            with np.load(self._file, allow_pickle=False) as stored:
                texts = json.loads(stored["texts"].tobytes().decode("utf-8"))
                rows = zip(texts, torch.from_numpy(stored["embeddings"]), strict=True)
                self._rows = {text: row for text, row in rows if bool(row.isfinite().all())}

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Return unit embeddings of N texts, (N, D) float32."""
        if missing := [text for text in dict.fromkeys(texts) if text not in self._rows]:
            embedded = self._model.encode_texts(missing)
            self._rows.update(zip(missing, embedded.float().cpu(), strict=True))
            self._is_new = True
        return torch.stack([self._rows[text] for text in texts]).to(self._model.device)

    def difference(self, first: Tensor, second: Tensor) -> Tensor:
        return self._model.difference(first, second)

    def project(self, differences: Tensor) -> Tensor:
        return self._model.project(differences)

    def save(self) -> None:
        """Write the file atomically if there are new texts."""
        if not self._is_new:
            return
        texts = np.frombuffer(json.dumps(list(self._rows)).encode("utf-8"), dtype=np.uint8)
        with atomic_path(self._file) as temporary, temporary.open("wb") as stream:
            np.savez(stream, texts=texts, embeddings=torch.stack(list(self._rows.values())).numpy())
        self._is_new = False
