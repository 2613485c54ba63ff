"""pcclip: finetune CLIP so that the difference of two image embeddings points where a text describing it points."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcclip.tools.inference import InferenceModel

__version__ = "0.1.0"
__all__ = ["load"]


def load(source: str, pretrained: str | None = None, device: str = "auto") -> InferenceModel:
    """Load a model to use it: to rank pictures, compare them, or embed them.

    Args:
        source: A folder that `pcclip` or open_clip saved, such as `runs/demo/finetuned`, or that `pcclip export` made;
            a Lightning checkpoint (`.ckpt`) of `pcclip fit`; an address of one of these (`s3://`, `hf://`, ...); an open_clip
            name, `hf-hub:NAME`.
        pretrained: open_clip's pretrained tag, or a weights file; for open_clip names only.
        device: `cpu`, `cuda`, ...; `auto` takes a GPU if there is one.

    Returns:
        The model, in evaluation mode, without gradients.

    Raises:
        FileNotFoundError: No such folder, checkpoint or configuration.
        ValueError: Not a model, weights that do not fit, or an unknown name or tag.
    """
    from pcclip.tools.open_model import load_model  # imports torch, which `import pcclip` should not

    return load_model(source, pretrained, device)
