"""The world of coloured squares."""

from tests.helpers.world import make_trainer, world

__all__ = ["make_trainer", "world"]
