"""Import open_clip for the tools without two packages that take half of a tool's start-up and that it rarely uses.

- open_clip imports `transformers` if it is installed. Only text towers of Hugging Face need it.
- torchvision and timm import `torch._dynamo`, the compiler behind `torch.compile`, for one function each.

None of them has an option to leave these out. So while open_clip is imported, transformers counts as not installed, and a
stand-in takes the place of `torch._dynamo`. Both can be imported as usual afterwards. This is for the processes of the
command line; `pcclip.load` and the training import open_clip as it is.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

DYNAMO = ("torch._dynamo", "torch._dynamo.utils")


def import_open_clip() -> None:
    """Import open_clip, unless it is imported already, without transformers and `torch._dynamo`."""
    if "open_clip" in sys.modules:
        return
    importlib.import_module("torch")
    if not sys.modules.keys() & set(DYNAMO):
        sys.modules |= {name: _StandIn(name) for name in DYNAMO}
    hidden = "transformers" not in sys.modules
    if hidden:
        sys.modules["transformers"] = None  # type: ignore[assignment]  # Python's way to say "cannot be imported"
    try:
        importlib.import_module("open_clip")
    finally:
        _remove_stand_ins()
        if hidden:
            del sys.modules["transformers"]


def import_transformers() -> None:
    """Let an imported open_clip have transformers, if it is installed, before a text tower of Hugging Face is made."""
    from open_clip import hf_model

    if hf_model.transformers is None:
        importlib.reload(hf_model)  # in place: the classes that others hold see the new names


class _StandIn(ModuleType):
    """Stand-in for one of `DYNAMO`: knows the functions used on import. Any other name imports the real module."""

    def disable(self, function: Callable[..., Any], *options: Any, **more: Any) -> Callable[..., Any]:
        """Decorate a function by `torch._dynamo.disable` when it is first called."""

        @functools.cache
        def decorated() -> Callable[..., Any]:
            made: Callable[..., Any] = _real("torch._dynamo").disable(function, *options, **more)
            return made

        return functools.wraps(function)(lambda *args, **kwargs: decorated()(*args, **kwargs))

    def is_compile_supported(self, device: Any) -> Any:
        """Ask the real function."""
        return _real("torch._dynamo.utils").is_compile_supported(device)

    def __getattr__(self, name: str) -> Any:
        # Others look for such names in every module. Only a package has a path, and it is needed to import what is in it.
        if name.startswith("__") and (name, self.__name__) != ("__path__", "torch._dynamo"):
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def _real(name: str) -> ModuleType:
    _remove_stand_ins()
    return importlib.import_module(name)


def _remove_stand_ins() -> None:
    for name in DYNAMO:
        if isinstance(sys.modules.get(name), _StandIn):
            del sys.modules[name]
