"""`pcclip export`."""

from dataclasses import dataclass
from typing import Literal

from pcclip.commands.command import ModelCommand


@dataclass(kw_only=True)
class Export(ModelCommand):
    """Save a model for another library: weights (safetensors), tokenizer, preprocessing and a model card."""

    format: Literal["open_clip", "huggingface"]
    """`open_clip`, which `local-dir:FOLDER` loads; or `huggingface`, for `CLIPModel.from_pretrained(FOLDER)`."""
    text_only: bool = False
    """The text tower alone; huggingface only."""
    output: str
    """A new folder."""
    overwrite: bool = False
    """Replace output that exists."""

    def run(self) -> None:
        """Load the model and export it."""
        from pcclip.tools.output import new_folder

        new_folder(self.output, self.overwrite)
        model = self.load_model()
        from pcclip.tools.exporting import export

        export(model, self.output, self.format, text_only=self.text_only, overwrite=self.overwrite)
        print(f"written to {self.output}")
