"""A page to try models on pictures: rank by a text, search by a difference, compare two models (extra `demo`).

  pcclip demo photos --model runs/demo/finetuned --base runs/demo/base
  pcclip demo --root .                         every folder of pictures and every model that lies beneath

What is named, and what lies beneath a --root, can be chosen in the page; nothing else can be reached from it.
"""

from __future__ import annotations

import argparse
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pcclip.files import existing_folder
from pcclip.tools.commands.common import DEMO, add_embedding, embed, positive

if TYPE_CHECKING:
    from pcclip.tools.gallery import Gallery
    from pcclip.tools.library import Library
    from pcclip.tools.model import InferenceModel

MAX_PORT = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("pictures", metavar="PICTURES", nargs="*", help="as of `pcclip rank`; each is a choice")
    add_embedding(parser)
    parser.add_argument(
        "--model", action="append", metavar="MODEL", help=f"a choice; may be given several times (default: {DEMO})"
    )
    parser.add_argument("--base", metavar="MODEL", help="a model that is shown next to the first one from the start")
    parser.add_argument("--pretrained", metavar="TAG", help="of the one --model, if it is an open_clip name")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument(
        "--root", action="append", metavar="DIR", help="also choose among the folders and models beneath it"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=positive, default=7860, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--upload-limit", type=positive, default=10, metavar="MB", help="(default: %(default)s MB)")


def run(options: argparse.Namespace) -> None:
    """Load and embed what the page opens with, and serve it until interrupted."""
    from pcclip.tools.output import need

    need("gradio", "demo")
    _check_address(options.host, options.port)
    library = _library(options)
    named = [*(options.model or []), *([options.base] if options.base else [])]
    for model in named:  # what was named must be there
        library.model(model)
    library.shown(library.pictures[0], library.models[0])
    from pcclip.tools.demo import build_page

    page = build_page(library, library.pictures[0], library.models[0], options.base)
    page.launch(
        server_name=options.host,
        server_port=options.port,
        max_file_size=f"{options.upload_limit}mb",
        quiet=True,
        share=False,
        prevent_thread_lock=True,
    )
    print(f"http://{options.host}:{options.port} (interrupt to end)", flush=True)
    page.block_thread()


def _check_address(host: str, port: int) -> None:
    """Check that the page can be served, before models are loaded.

    Raises:
        ValueError: There is no such port.
        OSError: The port is in use, or the address is not one of this machine.
    """
    if port > MAX_PORT:
        raise ValueError(f"--port {port}: ports go up to {MAX_PORT}")
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise OSError(
            f"--host {host} --port {port}: cannot listen there ({error.strerror}); choose another --port or --host"
        ) from error


def _library(options: argparse.Namespace) -> Library:
    """Check what is named, and collect the choices, those that are named first."""
    from pcclip import load
    from pcclip.tools.library import Library, folders_beneath, models_beneath
    from pcclip.tools.pictures import find_pictures

    if options.pretrained and len(options.model or []) != 1:
        raise ValueError("--pretrained belongs to one --model; name that, and others as saved folders")
    roots: list[str] = options.root or []
    for root in roots:
        existing_folder(root, "folder of --root")
    listed = {source: find_pictures([source]) for source in options.pictures}
    pictures = [*listed, *(folder for root in roots for folder in folders_beneath(root))]
    if not pictures:
        raise ValueError("no pictures to choose from; name PICTURES, or a --root with folders of pictures beneath")
    named = options.model or ([DEMO] if not roots or Path(DEMO).is_dir() else [])
    models = [*named, *([options.base] if options.base else [])]
    models += [model for root in roots for model in models_beneath(root)]
    if not models:
        raise ValueError("no model to choose; name one with --model, or a --root with saved models beneath")

    def load_named(name: str) -> InferenceModel:
        return load(name, options.pretrained if name in (options.model or []) else None, options.device)

    def embed_named(model: InferenceModel, name: str) -> Gallery:
        if threading.current_thread() is not threading.main_thread():
            options.workers = 0  # a server's threads must not fork
        return embed(model, listed.get(name) or find_pictures([name]), options)

    return Library(list(dict.fromkeys(pictures)), list(dict.fromkeys(models)), load_named, embed_named)
