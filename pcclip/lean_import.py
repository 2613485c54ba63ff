"""Import open_clip for the tools without transformers and `torch._dynamo`, which take half of the start-up time.

open_clip imports transformers if it is installed. torchvision and timm import `torch._dynamo` for one function each. None of
them has an option against it. So stand-ins replace both modules while open_clip is imported, and are removed afterwards. Only
the tool commands do this; `pcclip.load` and training import open_clip as usual.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


def import_open_clip() -> None:
    """Import open_clip without transformers and `torch._dynamo`, unless it is already imported."""
    if "open_clip" in sys.modules:
        return
    importlib.import_module("torch")
    dynamo: Any = ModuleType("torch._dynamo")
    dynamo.utils = ModuleType("torch._dynamo.utils")
    dynamo.disable = lambda function, *_, **__: function  # nothing is compiled in a tool
    dynamo.utils.is_compile_supported = lambda device: False
    stand_ins: dict[str, Any] = {"torch._dynamo": dynamo, "torch._dynamo.utils": dynamo.utils, "transformers": None}
    stand_ins = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules |= stand_ins  # None makes an import fail
    try:
        importlib.import_module("open_clip")
    finally:
        for name in stand_ins:
            del sys.modules[name]


def import_transformers() -> None:
    """Give an imported open_clip access to transformers, if installed. Call this before making a Hugging Face text tower."""
    from open_clip import hf_model

    if hf_model.transformers is None:
        importlib.reload(hf_model)  # in place: existing classes see the new names
