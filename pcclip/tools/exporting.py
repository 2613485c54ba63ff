"""Exporting a model to other libraries: a folder with weights, tokenizer, preprocessing and model card."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pcclip.atomic import atomic_folder
from pcclip.model.loading import save_clip
from pcclip.tools.model import InferenceModel
from pcclip.tools.model_card import model_card
from pcclip.tools.output import need, new_folder
from pcclip.tools.runs import run_of

Format = Literal["open_clip", "huggingface"]


def export(
    model: InferenceModel, folder: str | Path, layout: Format, *, text_only: bool = False, overwrite: bool = False
) -> None:
    """Write a folder that another library loads; weights are safetensors.

    Args:
        model: The model.
        folder: A new folder.
        layout: `open_clip`, which `local-dir:FOLDER` loads; or `huggingface`, for `CLIPModel.from_pretrained(FOLDER)`.
        text_only: The text tower alone; `huggingface` only.
        overwrite: Whether a folder that was exported earlier may be replaced.

    Raises:
        FileExistsError: The folder is there already.
        ValueError: An architecture that the layout cannot hold, or transformers is not installed.
    """
    folder = Path(folder)
    if text_only and layout != "huggingface":
        raise ValueError("the text tower alone can be exported to Hugging Face only; open_clip loads whole models")
    run = run_of(model.source.removeprefix("local-dir:"))
    with atomic_folder(new_folder(folder, overwrite)) as target:
        if layout == "open_clip":
            save_clip(model.clip, target)
            kind = "open_clip"
        else:
            need("transformers", "huggingface")
            from pcclip.tools.huggingface import save_huggingface  # with transformers, which not everybody has

            save_huggingface(model.clip, target, text_only=text_only)
            kind = "huggingface text" if text_only else "huggingface"
        (target / "README.md").write_text(model_card(model.clip, model.source, folder, kind, run), encoding="utf-8")
