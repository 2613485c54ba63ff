"""A local server that speaks the chat-completions protocol and makes the faults that real endpoints make.

Run it as a script (`python tests/helpers/fault_server.py --port 8000 --latency 0.1 --share-429 0.1`), or in a test with
`running_server(Faults(...))`. Answers are made from the request's own words, so that a test can tell whose they are. It
also has the files and batches of the batch API, as far as a client needs them.
"""

import argparse
import asyncio
import json
import random
import re
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any

from tests.helpers.odd_replies import ODD_USAGE, USELESS

STATUS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests", 500: "Error"}


@dataclass
class Faults:
    """What goes wrong, and how often. Shares are of all requests and exclude each other.

    Attributes:
        latency: Seconds until an answer is sent.
        share_429: Answered 429 with `retry_after`.
        retry_after: The header's text, seconds or an HTTP date.
        share_500: Answered 500.
        share_hang: Never answered.
        share_malformed: Answered with JSON that is cut off.
        share_length: Answered with `finish_reason: length`.
        share_disconnect: The connection is closed without an answer.
        share_odd: Answered 200 with one of the `odd` bodies, the same for each repetition of a question.
        odd: Names of `tests.helpers.odd_replies`.
        headers: Further headers of every answer, each with its line end.
        refuse: `response_format` types that are refused with 400.
        api_key: If set, requests with another key get 401, which repeats the key that was sent.
        model: If set, requests for another model get 404.
        content: If set, every answer's text.
        finish_reason: Of every answer that is not a fault.
        seed: Of the draws.
    """

    latency: float = 0.0
    share_429: float = 0.0
    retry_after: str = "0.05"
    share_500: float = 0.0
    share_hang: float = 0.0
    share_malformed: float = 0.0
    share_length: float = 0.0
    share_disconnect: float = 0.0
    share_odd: float = 0.0
    odd: list[str] = field(default_factory=lambda: [*USELESS, *ODD_USAGE])
    headers: str = ""
    refuse: list[str] = field(default_factory=list)
    api_key: str = ""
    model: str = ""
    content: str = ""
    finish_reason: str = "stop"
    seed: int = 0


class FaultServer:
    """The server's state: what was asked and answered, by the last user message's text.

    Attributes:
        faults: May be changed while the server runs.
        on_question: Called with the text of each question before it is answered; may change `faults`.
        asked: Number of requests by text.
        answered: Number of whole answers by text (`length` is one too).
        formats: Number of requests by `response_format` type.
        kinds: Number of requests by what became of them.
        bodies: The latest requests' bodies.
        most_at_once: The largest number of requests under way together.
    """

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.on_question: Callable[[str], object] = lambda text: None
        self.port = 0
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[str] = []
        self.at_once = 0
        self.most_at_once = 0
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.random = random.Random(faults.seed)

    @property
    def url(self) -> str:
        """Base URL for a client."""
        return f"http://127.0.0.1:{self.port}/v1"

    def respond(self, method: str, path: str, headers: str, body: bytes) -> tuple[str, int, bytes, str]:
        """What becomes of a request: (kind of fault or `ok`, status, body, further headers)."""
        path = path.partition("?")[0]
        if path.endswith("/chat/completions"):
            return self._chat(headers, body)
        status, answer = self._batch_api(method, path, body)
        return "ok", status, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), ""

    def _chat(self, headers: str, body: bytes) -> tuple[str, int, bytes, str]:
        request = json.loads(body)
        text = _user_text(request)
        self.asked[text] += 1
        self.formats[request.get("response_format", {}).get("type", "text")] += 1
        self.bodies = [*self.bodies[-9:], request]
        self.headers = [*self.headers[-9:], headers]
        self.on_question(text)
        kind, status, answer, further = self._verdict(request, headers, text)
        further += self.faults.headers
        if kind == "odd":
            kind = self.faults.odd[zlib.crc32(text.encode()) % len(self.faults.odd)]
            self.kinds[kind] += 1
            return kind, status, USELESS.get(kind) or ODD_USAGE.get(kind, b""), further
        self.kinds[kind] += 1
        return kind, status, json.dumps(answer).encode(), further

    def _verdict(self, request: dict[str, Any], headers: str, text: str) -> tuple[str, int, dict[str, Any], str]:
        faults = self.faults
        sent = re.search(r"(?im)^authorization: *(.*?)\r?$", headers)
        if faults.api_key and (sent is None or sent[1] != f"Bearer {faults.api_key}"):
            return "401", 401, _error(f"Incorrect API key provided: {sent and sent[1]}", "invalid_api_key"), ""
        if faults.model and request.get("model") != faults.model:
            return "404", 404, _error(f"The model {request.get('model')!r} does not exist", "model_not_found"), ""
        kind = request.get("response_format", {}).get("type", "text")
        if kind in faults.refuse:
            return "400", 400, _error(f"response_format {kind!r} is not supported here", "invalid_request"), ""
        draw = self.random.random()
        for name in ("429", "500", "hang", "malformed", "length", "disconnect", "odd"):
            share = float(getattr(faults, f"share_{name}"))
            if draw < share:
                break
            draw -= share
        else:
            name = "ok"
        if name == "429":
            return (
                name,
                429,
                _error("Rate limit reached", "rate_limit_exceeded"),
                f"Retry-After: {faults.retry_after}\r\n",
            )
        if name == "500":
            return name, 500, _error("The server had an error", "server_error"), ""
        if name in ("hang", "disconnect"):
            return name, 0, {}, ""
        if name == "odd":
            return name, 200, {}, ""
        return name, 200, self._completion(request, text, name), ""

    def _completion(self, request: dict[str, Any], text: str, kind: str) -> dict[str, Any]:
        content = self.faults.content or answer_of(request, text)
        finish_reason = self.faults.finish_reason
        if kind == "malformed":
            content = content[: len(content) // 2]
        elif kind == "length":
            content, finish_reason = content[: len(content) // 2], "length"
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": request.get("model", "model"),
            "choices": [
                {
                    "index": 0,
                    "finish_reason": finish_reason,
                    "logprobs": None,
                    "message": {"role": "assistant", "content": content, "refusal": None},
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
        }

    def _batch_api(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        parts = path.removeprefix("/v1/").split("/")
        if method == "GET" and parts == ["models"]:
            return 200, {"object": "list", "data": [{"id": self.faults.model or "m", "object": "model"}]}
        if method == "POST" and parts == ["files"]:
            name = f"file-{len(self.files)}"
            self.files[name] = _multipart_file(body)
            return 200, _file(name, len(self.files[name]))
        if parts[0] == "files" and len(parts) == 3 and parts[1] in self.files:
            return 200, self.files[parts[1]]
        if method == "POST" and parts == ["batches"]:
            request = json.loads(body)
            name = f"batch-{len(self.batches)}"
            self.batches[name] = {
                "id": name,
                "object": "batch",
                "status": "in_progress",
                "created_at": len(self.batches),
                **{key: request.get(key) for key in ("endpoint", "input_file_id", "completion_window", "metadata")},
            }
            return 200, self.batches[name]
        if method == "GET" and parts == ["batches"]:
            newest_first = list(self.batches.values())[::-1]
            return 200, {"object": "list", "data": newest_first, "has_more": False}
        if method == "GET" and parts[0] == "batches" and len(parts) == 2 and parts[1] in self.batches:
            batch = self.batches[parts[1]]
            if batch["status"] == "in_progress":  # finished at the second look
                batch["status"] = "finalizing"
            elif batch["status"] == "finalizing":
                self._finish(batch)
            return 200, batch
        return 404, _error(f"no such path: {path}", "not_found")

    def _finish(self, batch: dict[str, Any]) -> None:
        answers, errors = self.run_batch(self.files[batch["input_file_id"]])
        for key, payload in (("output_file_id", answers), ("error_file_id", errors)):
            if payload:
                batch[key] = f"file-{len(self.files)}"
                self.files[batch[key]] = payload
        batch["status"] = "completed"

    def run_batch(self, requests: bytes) -> tuple[bytes, bytes]:
        """Answer a batch's input: (output file, error file)."""
        answers, errors = [], []
        for line in requests.splitlines():
            request = json.loads(line)
            _, status, body, _ = self._chat("", json.dumps(request["body"]).encode())
            head = json.dumps({"id": "b", "custom_id": request["custom_id"], "error": None})[:-1]
            response = f', "response": {{"status_code": {status or 500}, "request_id": "r", "body": '
            if status == 200:
                self.answered[_user_text(request["body"])] += 1
            row = f"{head}{response}".encode() + (body or b"{}") + b"}}\n"  # the body as it is, broken or not
            (answers if status == 200 else errors).append(row)
        return b"".join(answers), b"".join(errors)


def answer_of(request: dict[str, Any], text: str) -> str:
    """A well-formed answer: each field that the schema or the system message names, with words of the question."""
    schema = request.get("response_format", {}).get("json_schema", {}).get("schema", {})
    named = re.findall(r'(?m)^"(\w+)":', str(request["messages"][0]["content"]))
    names = list(schema.get("properties", {})) or named
    words = " ".join(text.split())[-60:]
    return json.dumps({name: f"The first image shows more, the second less ({name}): {words}" for name in names})


def _user_text(request: dict[str, Any]) -> str:
    content = request["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if part["type"] == "text")


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "error", "param": None, "code": code}}


def _file(name: str, size: int) -> dict[str, Any]:
    return {"id": name, "object": "file", "bytes": size, "created_at": 1, "filename": name, "purpose": "batch"}


def _multipart_file(body: bytes) -> bytes:
    boundary = body[: body.index(b"\r\n")]
    for part in body.split(boundary):
        head, _, payload = part.partition(b"\r\n\r\n")
        if b'name="file"' in head:
            return payload.removesuffix(b"\r\n")
    raise ValueError("no file in the upload")


class _Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as little of it as a client needs."""

    def __init__(self, server: FaultServer) -> None:
        self.server = server
        self.buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].decode("latin-1")
            length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self.buffer) < size:
                return
            body = bytes(self.buffer[end + 4 : size])
            del self.buffer[:size]
            self._take(head, body)

    def _take(self, head: str, body: bytes) -> None:
        method, path, _ = head.split(" ", 2)
        server = self.server
        server.at_once += 1
        server.most_at_once = max(server.most_at_once, server.at_once)
        kind, status, answer, further = server.respond(method, path, head, body)
        if kind == "hang":
            server.at_once -= 1
            return
        text = _user_text(json.loads(body)) if path.endswith("/chat/completions") else ""
        asyncio.get_running_loop().call_later(server.faults.latency, self._send, kind, status, answer, further, text)

    def _send(self, kind: str, status: int, answer: bytes, further: str, text: str) -> None:
        self.server.at_once -= 1
        if kind == "disconnect":
            self.transport.close()
            return
        if self.transport.is_closing():
            return
        if text and (kind in ("ok", "length") or kind in ODD_USAGE):
            self.server.answered[text] += 1
        head = f"HTTP/1.1 {status} {STATUS[status]}\r\nContent-Type: application/json\r\n{further}"
        self.transport.write(f"{head}Content-Length: {len(answer)}\r\n\r\n".encode() + answer)


async def serve(server: FaultServer, port: int = 0) -> asyncio.AbstractServer:
    """Begin to listen; port 0 takes a free one."""
    listening = await asyncio.get_running_loop().create_server(lambda: _Connection(server), "127.0.0.1", port)
    server.port = listening.sockets[0].getsockname()[1]
    return listening


@contextmanager
def running_server(faults: Faults | None = None) -> Iterator[FaultServer]:
    """A server in a thread of this process."""
    server = FaultServer(faults or Faults())
    loop = asyncio.new_event_loop()
    listening = loop.run_until_complete(serve(server))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(listening.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def main() -> None:
    """Serve until interrupted; the port is printed, and at the end what was asked."""
    parser = argparse.ArgumentParser(description="A chat-completions endpoint with faults")
    parser.add_argument("--port", type=int, default=0)
    for option in fields(Faults):
        name = "--" + option.name.replace("_", "-")
        default = option.default if option.default_factory is MISSING else option.default_factory()
        nargs = "*" if isinstance(default, list) else None
        parser.add_argument(name, type=type(default) if nargs is None else str, nargs=nargs, default=default)
    options = vars(parser.parse_args())
    port = options.pop("port")
    server = FaultServer(Faults(**options))

    async def forever() -> None:
        listening = await serve(server, port)
        print(f"{server.url} {asdict(server.faults)}", flush=True)
        await listening.serve_forever()

    try:
        asyncio.run(forever())
    except KeyboardInterrupt:
        print(dict(server.kinds))


if __name__ == "__main__":
    main()
