"""Results kept from run to run, for what is slow to fit and depends on image embeddings alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pcclip.metrics.protocol import Result
from pcclip.metrics.tables import read_results, write_results

_MODEL = "any"  # what tables call the model: rows hold for each that gives the same embeddings


def stored_results(
    cache_dir: str | Path, task: str, tensors: Sequence[Tensor], settings: Any, measure: Callable[[], list[Result]]
) -> list[Result]:
    """What `measure` returned when it was last given the very same, or what it returns now.

    Args:
        cache_dir: The folder to keep the rows in, as `<task>-<hash>.json` with a table beside it.
        task: Name of the evaluation.
        tensors: All that `measure` reads, bit by bit.
        settings: What else decides its answer, of types that JSON knows; among them the versions of what computes it.
        measure: Computes the rows anew, from `tensors` and `settings` alone; called if they are not kept or cannot be read.
    """
    digest = hashlib.sha256(json.dumps(settings).encode())
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{values.dtype}{tuple(values.shape)}".encode())
        digest.update(values.numpy().tobytes())
    file = Path(cache_dir) / f"{task}-{digest.hexdigest()[:32]}.json"
    try:
        return read_results(file)[_MODEL]
    except (FileNotFoundError, ValueError, KeyError):  # or not whole: made again
        results = measure()
        write_results(file, {_MODEL: results})
        return results
