"""A page to try a model on a folder of pictures: rank by a text, search by a difference, compare models (extra `demo`)."""

from __future__ import annotations

import argparse

from pcclip.tools.commands.common import add_model, add_pictures, cache_of, load_model, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_pictures(parser)
    add_model(parser)
    parser.add_argument("--base", metavar="MODEL", help="a second model to compare with, such as the base")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=positive, default=7860, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--upload-limit", type=positive, default=10, metavar="MB", help="(default: %(default)s MB)")


def run(options: argparse.Namespace) -> None:
    """Embed the pictures with each model, and serve the page until interrupted."""
    from pcclip import load
    from pcclip.tools.output import need
    from pcclip.tools.pictures import find_pictures

    need("gradio", "demo")
    pictures = find_pictures(options.pictures)
    models = {"finetuned" if options.base else options.model: load_model(options)}
    if options.base:
        models["base"] = load(options.base, device=options.device)
    from pcclip.tools.demo import Shown, build_page

    shown = {
        name: Shown(
            model,
            model.embed_pictures(
                pictures,
                cache=cache_of(options),
                batch_size=options.batch_size,
                workers=options.workers,
                progress=True,
            ),
        )
        for name, model in models.items()
    }
    page = build_page(shown)
    print(f"http://{options.host}:{options.port} (interrupt to end)", flush=True)
    page.launch(
        server_name=options.host,
        server_port=options.port,
        max_file_size=f"{options.upload_limit}mb",
        quiet=True,
        share=False,
    )
