"""Shards, batches of pairs, and labelled image sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcclip.data.datamodule import PairDataModule as PairDataModule

__all__ = ["PairDataModule"]


def __getattr__(name: str) -> object:
    # Loaded when it is asked for: the shard format, which data_prep reads, needs no torch.
    if name == "PairDataModule":
        from pcclip.data.datamodule import PairDataModule

        return PairDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
