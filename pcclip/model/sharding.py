"""Full (unsharded) state dict of a model, with or without FSDP2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING
from weakref import WeakSet

from torch import Tensor, distributed, nn

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

_whole: WeakSet[FSDPModule] = WeakSet()  # modules inside `gathered`


@contextmanager
def gathered(module: nn.Module) -> Iterator[None]:
    """Gather full weights in every process for the block. All processes must enter and leave it together.

    In the block, processes may run the model independently. Outside, each forward pass waits for all processes.
    """
    parts = _sharded(module)
    if not parts or parts[0] in _whole:
        yield
        return
    root, *blocks = parts
    _whole.add(root)
    for part in parts:
        part.unshard()
    for block in blocks:  # the root is never resharded after the forward pass
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
    """Return the full `state_dict` of a module, or of a part of it. Sharded weights must be `gathered`.

    `state_dict` itself would shard the weights again.
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
    """Load the result of `whole_state`. With sharded weights, call it in all processes, outside `gathered`."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict  # here: slow to import

    set_model_state_dict(module, dict(state), options=StateDictOptions(full_state_dict=True))


def _sharded(module: nn.Module) -> list[FSDPModule]:
    """Return the sharded parts of a module, the root first."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return []
    from torch.distributed.fsdp import FSDPModule  # here: slow to import

    return [part for part in module.modules() if isinstance(part, FSDPModule)]
