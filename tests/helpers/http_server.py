"""Local HTTP server that serves files with Range, and fails as a test wants."""

import hashlib
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Fault:
    """What goes wrong with one request.

    Attributes:
        status: Answer with this status and no file.
        headers: Further headers; None removes a header.
        drop_after: Close the connection after this many bytes of the body.
        stall_after: Send nothing more after this many bytes of the body.
        ignore_range: Send the whole file.
        content: Serve this from now on.
    """

    status: int | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    drop_after: int | None = None
    stall_after: int | None = None
    ignore_range: bool = False
    content: bytes | None = None


class FileServer(ThreadingHTTPServer):
    """Serves `content` at every path that `files` does not name.

    Attributes:
        content: The file.
        files: Other files, by the last part of their path, whatever the query.
        faults: What goes wrong with the next requests, one each; then all goes well.
        always: What goes wrong with the requests after those.
        requests: Headers of the requests so far.
    """

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.files: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.always = Fault()
        self.requests: list[dict[str, str]] = []
        self.leave = threading.Event()

    @property
    def url(self) -> str:
        """The file's address."""
        return f"http://127.0.0.1:{self.server_address[1]}/folder/file.bin"

    @property
    def ranges(self) -> list[str | None]:
        """The Range header of each request."""
        return [request.get("Range") for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers))
        fault = server.faults.pop(0) if server.faults else server.always
        if fault.content is not None:
            server.content = fault.content
        content = server.files.get(self.path.partition("?")[0].rpartition("/")[2], server.content)
        headers: dict[str, str | None] = {"ETag": f'"{hashlib.md5(content).hexdigest()}"'}
        status, body = 200, content
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if fault.status is not None:
            status, body = fault.status, b"no file"
        elif asked and not fault.ignore_range:
            start = int(asked[1])
            if start >= len(content):
                status, body = 416, b""
                headers["Content-Range"] = f"bytes */{len(content)}"
            else:
                status, body = 206, content[start:]
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        headers = {"Content-Length": str(len(body)), **headers, **fault.headers}
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        stop = fault.drop_after if fault.drop_after is not None else fault.stall_after
        self.wfile.write(body[:stop])
        if fault.drop_after is not None:
            # Shut down, not reset: what was sent arrives, as it mostly does when a connection breaks.
            self.connection.shutdown(socket.SHUT_RDWR)
        elif fault.stall_after is not None:
            server.leave.wait(120)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@contextmanager
def file_server(content: bytes) -> Iterator[FileServer]:
    """A server that runs while the block does."""
    server = FileServer(content)
    with serving(server):
        yield server
        server.leave.set()


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Let a server answer while the block runs."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
