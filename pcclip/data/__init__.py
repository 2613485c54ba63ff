"""The shard format, the streaming pipeline, the LightningDataModule, and readers of evaluation sets."""

from pcclip.data.datamodule import PairDataModule

__all__ = ["PairDataModule"]
