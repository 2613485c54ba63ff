"""Results kept from run to run, for what is slow to fit and depends on image embeddings alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pcclip import __version__
from pcclip.evaluation.protocol import Result
from pcclip.evaluation.tables import read_results, write_results


def stored_results(
    cache_dir: str | Path, task: str, tensors: Sequence[Tensor], settings: Any, measure: Callable[[], list[Result]]
) -> list[Result]:
    """What `measure` returned when it was last given the very same, or what it returns now.

    Args:
        cache_dir: The folder to keep the rows in, as `<task>-<hash>.json` with a table beside it.
        task: Name of the evaluation.
        tensors: All that `measure` reads, bit by bit.
        settings: What else decides its answer, of types that JSON knows.
        measure: Measures.
    """
    known = hashlib.sha256(json.dumps([__version__, torch.__version__, settings]).encode())
    for tensor in tensors:
        values = tensor.detach().cpu().contiguous()
        known.update(f"{values.dtype}{tuple(values.shape)}".encode())
        known.update(values.numpy().tobytes())
    file = Path(cache_dir) / f"{task}-{known.hexdigest()[:32]}.json"
    try:
        return read_results(file)[task]
    except (FileNotFoundError, ValueError, KeyError):  # or not whole: made again
        results = measure()
        write_results(file, {task: results})
        return results
