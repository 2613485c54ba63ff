"""`pcclip demo`: check the address and what is named, load what the page opens with, and serve it."""

import socket
import threading
from dataclasses import replace

from pcclip.commands.options import Demo
from pcclip.tools.attributes import SHIPPED, read_attribute, vocabulary
from pcclip.tools.demo_answers import Examples
from pcclip.tools.gallery import Gallery
from pcclip.tools.inference import InferenceModel
from pcclip.tools.library import Library, folders_below, models_below
from pcclip.tools.open_model import load_model
from pcclip.tools.picture_command import embed
from pcclip.tools.picture_sources import find_pictures

MAX_PORT = 65535
UPLOAD_LIMIT = "10mb"
# Attributes and classes of the embedded world, and of photographs.
WORLD = (
    ["size", "count", "brightness", "position"],
    ["circle", "square", "triangle", "star", "cross", "ring", "crescent", "diamond"],
)
PHOTOGRAPHS = (
    ["crowd", "light", "closeness", "animal_size"],
    ["person", "animal", "plant", "building", "vehicle", "landscape"],
)


def run(options: Demo) -> None:
    """Load and embed what the page opens with, and serve the page until interrupted."""
    _check_address(options)
    examples = _examples(options)
    library = _library(options)
    chosen = [model for model in (options.model, options.base) if model is not None]
    for model in chosen:  # all errors of loading come before the pictures are embedded
        library.model(model)
    for model in chosen:
        library.shown(library.pictures[0], model)
    from pcclip.tools.demo_page import (  # here: Gradio is slow to import, and errors come before it
        CSS,
        THEME,
        build_page,
    )

    page = build_page(library, library.pictures[0], options.model, options.base, examples)
    page.launch(
        theme=THEME,
        css=CSS,
        footer_links=[],
        inbrowser=options.open,
        server_name=options.host,
        server_port=options.port,
        max_file_size=UPLOAD_LIMIT,
        quiet=True,
        share=False,
        prevent_thread_lock=True,
    )
    print(f"http://{options.host}:{options.port} (interrupt to end)", flush=True)
    page.block_thread()


def _examples(options: Demo) -> Examples:
    """Return what the options name, or what suits the vocabulary."""
    attributes, classes = WORLD if options.vocabulary == "world" else PHOTOGRAPHS
    axes = [read_attribute(name, options.attributes or SHIPPED) for name in options.attribute or attributes]
    known = vocabulary(options.vocabulary, options.attributes)
    return Examples(axes, options.classes or classes, options.template, known)


def _check_address(options: Demo) -> None:
    """Check that the page can be served, before models are loaded.

    Raises:
        ValueError: The port is too high.
        OSError: The port is in use, or this machine does not have the address.
    """
    if options.port > MAX_PORT:
        raise ValueError(f"--port {options.port}: ports go up to {MAX_PORT}")
    try:
        with socket.socket(socket.AF_INET6 if ":" in options.host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((options.host, options.port))
    except OSError as error:
        where = f"--host {options.host} --port {options.port}"
        raise OSError(f"{where}: cannot listen there ({error.strerror}); choose another port or host") from error


def _library(options: Demo) -> Library:
    """Check what is named, and collect the choices, named ones first."""
    models = [options.model, *([options.base] if options.base else [])]
    if options.below:
        folders = [folder for root in options.pictures for folder in folders_below(root)]
        listed = {folder: find_pictures([folder]) for folder in folders[:1]}
        models += [model for root in options.pictures for model in models_below(root)]
        if not folders:
            raise ValueError(f"{', '.join(options.pictures)}: no folder of pictures below; name others")
    else:
        listed = {source: find_pictures([source]) for source in options.pictures}
        folders = list(listed)

    def load_named(name: str) -> InferenceModel:
        return load_model(name, options.pretrained if name == options.model else None, options.device)

    def embed_named(model: InferenceModel, name: str) -> Gallery:
        on_server = threading.current_thread() is not threading.main_thread()
        chosen = replace(options, workers=0) if on_server else options  # a server's threads must not fork
        return embed(chosen, model, listed.get(name) or find_pictures([name]))

    return Library(list(dict.fromkeys(folders)), list(dict.fromkeys(models)), load_named, embed_named)
