"""Import open_clip for the tools without transformers and `torch._dynamo`, which take half of a tool's start-up.

open_clip imports transformers if it is installed, and torchvision and timm import `torch._dynamo` for one function each; none
has an option to leave them out. So stand-ins take their places while open_clip is imported, and are removed afterwards.
Only processes of the tool commands do this; `pcclip.load` and training import open_clip as it is.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


def import_open_clip() -> None:
    """Import open_clip without transformers and `torch._dynamo`, unless it is imported already."""
    if "open_clip" in sys.modules:
        return
    importlib.import_module("torch")
    dynamo: Any = ModuleType("torch._dynamo")
    dynamo.utils = ModuleType("torch._dynamo.utils")
    dynamo.disable = lambda function, *_, **__: function  # nothing is compiled in a tool
    dynamo.utils.is_compile_supported = lambda device: False
    stand_ins: dict[str, Any] = {"torch._dynamo": dynamo, "torch._dynamo.utils": dynamo.utils, "transformers": None}
    stand_ins = {name: module for name, module in stand_ins.items() if name not in sys.modules}
    sys.modules |= stand_ins  # None stands for a module that cannot be imported
    try:
        importlib.import_module("open_clip")
    finally:
        for name in stand_ins:
            del sys.modules[name]


def import_transformers() -> None:
    """Let an imported open_clip have transformers, if it is installed, before a text tower of Hugging Face is made."""
    from open_clip import hf_model

    if hf_model.transformers is None:
        importlib.reload(hf_model)  # in place: the classes that others hold see the new names
