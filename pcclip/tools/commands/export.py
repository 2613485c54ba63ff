"""Save a model for open_clip or Hugging Face, with tokenizer, preprocessing and a model card, weights as safetensors."""

from __future__ import annotations

import argparse

from pcclip.tools.commands.common import add_model, add_overwrite, load_model


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_model(parser)
    parser.add_argument("--format", choices=("open_clip", "huggingface"), required=True, help="whose layout")
    parser.add_argument("--output", required=True, metavar="DIR", help="a new folder")
    add_overwrite(parser)
    parser.add_argument("--text-only", action="store_true", help="the text tower alone (huggingface)")


def run(options: argparse.Namespace) -> None:
    """Load and export."""
    from pcclip.tools.output import new_folder

    new_folder(options.output, options.overwrite)
    model = load_model(options)
    from pcclip.tools.export import export

    export(model, options.output, options.format, text_only=options.text_only, overwrite=options.overwrite)
    print(f"written to {options.output}")
