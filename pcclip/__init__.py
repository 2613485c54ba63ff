"""pcclip: finetune CLIP so that the difference of two image embeddings matches a text that describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pcclip.tools.inference import InferenceModel

__version__ = "0.1.0"
__all__ = ["load"]


def load(source: str, pretrained: str | None = None, device: str = "auto") -> InferenceModel:
    """Load a model to rank, compare or embed pictures.

    Args:
        source: A folder saved by pcclip or open_clip, such as `runs/demo/finetuned`; a checkpoint (`.ckpt`) of `pcclip fit`;
            a folder of adapters (`pcclip export --format adapter`);
            an address of one of these (`s3://`, `hf://`, ...); an open_clip name, or `hf-hub:NAME`.
        pretrained: Pretrained tag of open_clip, or weights file; for open_clip names only.
        device: `cpu`, `cuda`, ...; `auto` uses a GPU if there is one.

    Returns:
        The model, in evaluation mode and without gradients.

    Raises:
        FileNotFoundError: The folder, checkpoint or configuration does not exist.
        ValueError: Not a model, weights that do not fit, or an unknown name or tag.
    """
    from pcclip.tools.open_model import load_model  # here: imports torch

    return load_model(source, pretrained, device)
