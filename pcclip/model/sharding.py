"""Whole weights of a model whose weights are shared out among processes (FSDP2); of other models simply their weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

from torch import Tensor, distributed, nn

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

_whole: WeakSet[FSDPModule] = WeakSet()  # those that are `gathered`


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Hold whole weights in every process. All must enter and leave together; inside, each may do what it likes.

    What is shared out otherwise makes processes wait for each other whenever one of them runs the model.
    """
    parts = _sharded(module)
    if not parts or parts[0] in _whole:
        yield
        return
    root, *blocks = parts
    _whole.add(root)
    for part in parts:
        part.unshard()
    for block in blocks:  # the root keeps its own in any case
        block.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for block in blocks:
            block.set_reshard_after_forward(True, recurse=False)
        for part in parts:
            part.reshard()
        _whole.discard(root)


def whole_state(module: nn.Module, part: str = "") -> dict[str, Tensor]:
    """The `state_dict` of a module's part, by default of all; also where its weights are sharded, but `gathered` now.

    For those the method itself would share them out again.
    """
    if not _sharded(module):
        return module.get_submodule(part).state_dict()
    state: dict[str, Tensor] = {}
    for path, child in module.get_submodule(part).named_modules(remove_duplicate=False):
        kept = {name: value for name, value in child._buffers.items() if name not in child._non_persistent_buffers_set}
        prefix = f"{path}." if path else ""
        state |= {prefix + name: value for name, value in (child._parameters | kept).items() if value is not None}
    return state


def load_whole_state(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load what `whole_state` gave; with sharded weights in all processes together, and outside `gathered`."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict  # here: slow to import

    set_model_state_dict(module, dict(state), options=StateDictOptions(full_state_dict=True))


def _sharded(module: nn.Module) -> list[FSDPModule]:
    """The sharded parts of a module, the root first."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return []
    from torch.distributed.fsdp import FSDPModule  # here: half a second that a tool's start-up need not pay

    return [part for part in module.modules() if isinstance(part, FSDPModule)]
