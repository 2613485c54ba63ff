"""Local server that speaks the part of the Hugging Face Hub's protocol that uploads and downloads need."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helpers.http_server import serving

LARGE = ("*.safetensors", "*.tar")  # files that go to the large file storage


@dataclass
class Repository:
    """Content of a repository."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def sha(self) -> str:
        """Name of the last commit."""
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


class HubServer(ThreadingHTTPServer):
    """Attributes:
    repositories: By kind and name, such as `models/user/name`.
    token: Token that may write, and read private repositories.
    writes: Paths of the requests that change something.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.token = "secret"
        self.stored: dict[str, bytes] = {}
        self.writes: list[str] = []

    @property
    def url(self) -> str:
        """Address, as for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)(?:/revision/\w+)?", path):
            if repository := self._readable(found[1]):
                name = found[1].partition("/")[2]
                siblings = [{"rfilename": file} for file in repository.files]
                self._json({"id": name, "sha": repository.sha, "private": repository.private, "siblings": siblings})
        elif found := re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)/tree/\w+/?(.*)", path):
            if repository := self._readable(found[1]):
                self._json([_entry(repository, name) for name in repository.files if name.startswith(found[2])])
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/\w+/(.*)", path):
            if repository := self._readable((found[1] or "models/") + found[2]):
                self._file(repository, found[3])
        else:
            self._json({"error": path}, 404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if found := re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)/paths-info/\w+", self.path):
            if repository := self._readable(found[1]):
                asked = json.loads(body)["paths"]
                self._json([_entry(repository, name) for name in repository.files if name in asked])
            return
        if self.path == "/api/validate-yaml":
            self._json({})
            return
        self.server.writes.append(self.path)
        if self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._json({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            key = f"{asked.get('type', 'model')}s/{asked['organization']}/{asked['name']}"
            self.server.repositories[key] = Repository(asked.get("visibility") == "private")
            self._json({"url": f"{self.server.url}/{key}"})
        elif re.fullmatch(r"/api/\w+/[^/]+/[^/]+/preupload/\w+", self.path):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if any(fnmatch(file["path"], each) for each in LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self._json({"files": files})
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**each, "actions": {"upload": {"href": f"{self.server.url}/store/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            self._json({"transfer": "basic", "objects": objects})
        elif found := re.fullmatch(r"/api/(\w+/[^/]+/[^/]+)/commit/\w+", self.path):
            repository = self.server.repositories[found[1]]
            for line in map(json.loads, body.splitlines()):
                self._commit(repository.files, line["key"], line["value"])
            self._json(
                {"commitUrl": f"{self.server.url}/{found[1]}/commit/{repository.sha}", "commitOid": repository.sha}
            )
        else:
            self._json({"error": self.path}, 404)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        oid = self.path.rpartition("/")[2]
        assert hashlib.sha256(content).hexdigest() == oid
        self.server.stored[oid] = content
        self._json({})

    def _readable(self, key: str) -> Repository | None:
        repository = self.server.repositories.get(key)
        if repository is None or (
            repository.private and self.headers.get("Authorization") != f"Bearer {self.server.token}"
        ):
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return None
        return repository

    def _commit(self, files: dict[str, bytes], key: str, value: Any) -> None:
        if key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            files[value["path"]] = self.server.stored[value["oid"]]
        elif key == "deletedFile":
            del files[value["path"]]

    def _file(self, repository: Repository, name: str) -> None:
        content = repository.files.get(name)
        if content is None:
            self._json({"error": name}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repository.sha})
            return
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": repository.sha}
        status, asked = 200, re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            start, stop = int(asked[1]), int(asked[2] or len(content) - 1) + 1
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            status, content = 206, content[start:stop]
        self._answer(status, content, headers)

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


def _entry(repository: Repository, name: str) -> dict[str, Any]:
    content = repository.files[name]
    return {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": name}


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """A server that runs while the block does."""
    server = HubServer()
    with serving(server):
        yield server
