"""`pcclip demo`."""

import socket
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from jsonargparse.typing import PositiveInt

from pcclip.commands.command import EmbeddingCommand

if TYPE_CHECKING:
    from pcclip.tools.gallery import Gallery
    from pcclip.tools.inference import InferenceModel
    from pcclip.tools.library import Library

MAX_PORT = 65535


@dataclass(kw_only=True)
class Demo(EmbeddingCommand):
    """Serve a page to try models on pictures: rank by a text, search by a difference, compare two models.

    pcclip demo photos --model runs/demo/finetuned --base runs/demo/base
    pcclip demo . --below true

    Each of PICTURES is a choice. Nothing else on the disk can be reached from the page. Needs the extra `demo`.
    """

    base: str | None = None
    """A model that is shown next to `--model` from the start."""
    others: list[str] = field(default_factory=list)
    """Further models to choose from."""
    below: bool = False
    """Choose among the folders of pictures and the saved models below PICTURES."""
    host: str = "127.0.0.1"
    """Address to listen on; by default this machine only."""
    port: PositiveInt = 7860
    """Port to listen on."""
    upload_limit: PositiveInt = 10
    """Size of an uploaded picture in MB."""

    def run(self) -> None:
        """Load and embed what the page opens with, and serve it until interrupted."""
        from pcclip.tools.output import need

        need("gradio", "demo")
        self._check_address()
        library = self._library()
        for model in (self.model, self.base, *self.others):  # what is named must be there
            if model is not None:
                library.model(model)
        library.shown(library.pictures[0], self.model)
        from pcclip.tools.demo_page import build_page

        page = build_page(library, library.pictures[0], self.model, self.base)
        page.launch(
            server_name=self.host,
            server_port=self.port,
            max_file_size=f"{self.upload_limit}mb",
            quiet=True,
            share=False,
            prevent_thread_lock=True,
        )
        print(f"http://{self.host}:{self.port} (interrupt to end)", flush=True)
        page.block_thread()

    def _check_address(self) -> None:
        """Check that the page can be served, before models are loaded.

        Raises:
            ValueError: There is no such port.
            OSError: The port is in use, or the address is not one of this machine.
        """
        if self.port > MAX_PORT:
            raise ValueError(f"--port {self.port}: ports go up to {MAX_PORT}")
        try:
            with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self.host, self.port))
        except OSError as error:
            where = f"--host {self.host} --port {self.port}"
            raise OSError(f"{where}: cannot listen there ({error.strerror}); choose another port or host") from error

    def _library(self) -> "Library":
        """Check what is named, and collect the choices, those that are named first."""
        from pcclip import load
        from pcclip.tools.library import Library, folders_below, models_below
        from pcclip.tools.picture_sources import find_pictures

        models = [self.model, *([self.base] if self.base else []), *self.others]
        if self.below:
            folders = [folder for root in self.pictures for folder in folders_below(root)]
            listed = {folder: find_pictures([folder]) for folder in folders[:1]}
            models += [model for root in self.pictures for model in models_below(root)]
            if not folders:
                raise ValueError(f"{', '.join(self.pictures)}: no folder of pictures below; name others")
        else:
            listed = {source: find_pictures([source]) for source in self.pictures}
            folders = list(listed)

        def load_named(name: str) -> "InferenceModel":
            return load(name, self.pretrained if name == self.model else None, self.device)

        def embed_named(model: "InferenceModel", name: str) -> "Gallery":
            on_server = threading.current_thread() is not threading.main_thread()
            command = replace(self, workers=0) if on_server else self  # a server's threads must not fork
            return command.embed(model, listed.get(name) or find_pictures([name]))

        return Library(list(dict.fromkeys(folders)), list(dict.fromkeys(models)), load_named, embed_named)
