"""Ask the open questions by batch files: write, submit, wait and collect.

The files have the format of OpenAI's batch API, which `vllm run-batch -i NNNN.in.jsonl -o NNNN.out.jsonl` also supports.
Files and state are in a folder next to the output. The state is saved after every stage, so that a killed run continues
from there.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import openai
from pydantic import AliasChoices, AliasPath, BaseModel, Field

from data_prep.files import read_jsonl
from data_prep.llm.questions import Question
from data_prep.llm.replies import LONGEST_BODY, Completion, Lenient, NoAnswerError, Reply, load, malformed
from data_prep.llm.run import Run
from data_prep.parts import hash64
from pcclip.atomic import atomic_path, atomic_text

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
RETRIES = 5  # of the client library, for the few requests of the batch API
ENDED = ("completed", "expired", "cancelled")  # the last two have the answers up to then


class SubmittedBatch(BaseModel):
    """One batch file and its progress."""

    number: int
    """Number in the names of the files."""
    requests: int = 0
    """Number of requests."""
    file_id: str = ""
    """Id of the uploaded file at the endpoint, or empty."""
    batch_id: str = ""
    """Id of the submitted batch at the endpoint, or empty."""
    collected: bool = False
    """Whether its answers are in the journal."""


class State(BaseModel):
    """Content of `state.json`."""

    settings: str
    """Hash of the settings of the requests."""
    batches: list[SubmittedBatch] = []


def _problem(key: str) -> AliasChoices:
    """Return the places where a failed row may have an error's code or message."""
    places = (("error", "error"), ("error",), ("response", "body", "error"), ("response", "body"))
    return AliasChoices(*(AliasPath(*place, key) for place in places))


class _Row(BaseModel):
    """A row of a batch's output files. Missing or wrongly typed parts are None."""

    custom_id: str
    status: Lenient[int] = Field(None, validation_alias=AliasPath("response", "status_code"))
    completion: Lenient[Completion] = Field(None, validation_alias=AliasPath("response", "body"))
    error: Any = None
    code: Any = Field(None, validation_alias=_problem("code"))
    message: Any = Field(None, validation_alias=_problem("message"))

    def answer(self) -> Completion:
        """Return the completion.

        Raises:
            NoAnswerError: The request failed.
        """
        if self.error or self.status != 200:
            code, message = (found if isinstance(found, str) else "" for found in (self.code, self.message))
            raise NoAnswerError(code or f"http_{self.status or 'none'}", message)
        if self.completion is None:
            raise malformed("the body is not the protocol's JSON")
        return self.completion


class BatchRun:
    """State of the batches of a run.

    With `batch_submit`, one run writes, submits, waits and collects. Without, the first run writes the request files, and a
    later run collects from the `out` files that another program has written.

    Args:
        run: The run.

    Raises:
        ValueError: The files of an earlier run have other settings.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        output, settings = run.journal.output, run.requests.settings_digest
        self._folder = output.with_name(f"{output.stem}.batch")
        self._file = self._folder / "state.json"
        written = self._file.is_file()
        self._state = State.model_validate_json(self._file.read_bytes()) if written else State(settings=settings)
        if self._state.settings != settings:
            raise ValueError(
                f"{self._file}: written with other settings than this run's; choose another `output`, "
                f"or delete {self._folder} to start again"
            )

    def advance(self) -> None:
        """Write batch files unless some are open, submit and fetch them, and collect their answers.

        Raises:
            ValueError: The input is invalid, or the endpoint rejects a request.
        """
        if not self._open:
            self._write()
        if self._run.options.batch_submit and self._open:
            self._submit_and_fetch()
        for batch in self._open:
            inputs, outputs = self._path(batch, "in"), self._path(batch, "out")
            if outputs.is_file() or self._path(batch, "errors").is_file():
                self._collect(batch)
            else:
                print(f"waiting for {outputs}; make it, e.g. by: vllm run-batch -i {inputs} -o {outputs} --model ...")
                self._run.stopped = "batch files"
        if self._run.missing and not self._run.stopped:
            self._run.stopped = "limit"

    @property
    def _open(self) -> list[SubmittedBatch]:
        return [batch for batch in self._state.batches if not batch.collected]

    def _path(self, batch: SubmittedBatch, kind: str) -> Path:
        """Return a batch's file: `in`, `out` or `errors`."""
        return self._folder / f"{batch.number:04d}.{kind}.jsonl"

    def _save(self) -> None:
        with atomic_text(self._file) as stream:
            stream.write(self._state.model_dump_json(indent=1))

    def _write(self) -> None:
        """Write files of the open questions. They are ignored until the state names them."""
        lines = self._lines()
        for first in lines:
            batch, size = SubmittedBatch(number=len(self._state.batches)), 0
            with atomic_text(self._path(batch, "in")) as stream:
                for line in chain([first], lines):
                    batch.requests += 1
                    size += len(line.encode())
                    stream.write(line)
                    # Leave room for the next line, which may be a little longer than this one.
                    if batch.requests == MOST_REQUESTS or size + 2 * len(line.encode()) > MOST_BYTES:
                        break
            self._state.batches.append(batch)
            print(f"{self._path(batch, 'in')}: {batch.requests} requests, {size} bytes")
        if self._open:
            self._save()

    def _lines(self) -> Iterator[str]:
        requests = self._run.requests
        for question in self._run.open():
            try:
                messages = requests.messages(question)
            except NoAnswerError as error:
                self._run.record(question, Reply(error))
                continue
            if self._run.reserve(messages) is None:
                return
            body = requests.body(messages, self._run.options.answer_formats[0])
            head = {"custom_id": self._custom_id(question), "method": "POST", "url": "/v1/chat/completions"}
            yield json.dumps({**head, "body": body}, ensure_ascii=False) + "\n"

    def _custom_id(self, question: Question) -> str:
        return f"{question.id}|{self._run.requests.key(question).partition('-')[2]}"

    def _submit_and_fetch(self) -> None:
        options = self._run.options
        client = openai.OpenAI(base_url=options.base_url, api_key=options.api_key(), max_retries=RETRIES)
        try:
            for batch in self._open:
                if not batch.batch_id:
                    self._submit(client, batch)
            for batch in self._open:
                self._fetch(client, batch)
        except openai.OpenAIError as error:
            raise ValueError(f"{client.base_url}: {options.clean(str(error))}; run again to continue") from None

    def _submit(self, client: openai.OpenAI, batch: SubmittedBatch) -> None:
        if batch.file_id:  # an earlier run died after the upload, before or after submitting the batch
            submitted = (found.id for found in client.batches.list() if found.input_file_id == batch.file_id)
            batch.batch_id = next(submitted, "")
        else:
            batch.file_id = client.files.create(file=self._path(batch, "in"), purpose="batch").id
            self._save()
        if not batch.batch_id:
            batch.batch_id = client.batches.create(
                input_file_id=batch.file_id, endpoint="/v1/chat/completions", completion_window="24h"
            ).id
        self._save()

    def _fetch(self, client: openai.OpenAI, batch: SubmittedBatch) -> None:
        """Wait for the end of a batch and download its answers and errors. A file that does not exist becomes an empty one."""
        paths = [self._path(batch, kind) for kind in ("out", "errors")]
        if all(path.is_file() for path in paths):
            return
        while (found := client.batches.retrieve(batch.batch_id)).status not in ENDED:
            if found.status == "failed":
                errors = "; ".join(str(error.message) for error in (found.errors and found.errors.data) or [])
                raise ValueError(
                    f"batch {found.id} failed as a whole: {self._run.options.clean(errors)}; "
                    "delete its folder to write it again"
                )
            counts = found.request_counts
            done = f", {counts.completed} of {counts.total} answered, {counts.failed} failed" if counts else ""
            print(f"{time.strftime('%H:%M:%S')} batch {found.id}: {found.status}{done}", flush=True)
            time.sleep(self._run.options.batch_poll)
        for path, file_id in zip(paths, (found.output_file_id, found.error_file_id), strict=True):
            with atomic_path(path) as temporary:
                if file_id is not None:
                    with client.files.with_streaming_response.content(file_id) as response:
                        response.stream_to_file(temporary)

    def _collect(self, batch: SubmittedBatch) -> None:
        file = self._path(batch, "in")
        names = {row["custom_id"] for _, row in read_jsonl(file, {"custom_id": str})}
        rows = self._rows(batch)
        ids = np.array([hash64(name.rpartition("|")[0]) for name in names], dtype=np.uint64)
        for question in self._run.unanswered(ids):
            custom_id = self._custom_id(question)
            if custom_id not in names:
                raise ValueError(
                    f"{file}: {question.id!r} was asked with other captions than the input has now; "
                    f"choose another `output`, or delete {self._folder} and the output to start again"
                )
            self._run.record(question, self._reply(question, rows.get(custom_id)))
        batch.collected = True
        self._save()

    def _rows(self, batch: SubmittedBatch) -> dict[str, _Row]:
        """Read the output files. Unreadable rows are skipped. If a request has several rows, the first one counts."""
        rows: dict[str, _Row] = {}
        for file in (self._path(batch, kind) for kind in ("out", "errors")):
            if file.is_file():
                with file.open("rb") as stream:
                    while line := stream.readline(LONGEST_BODY):
                        with suppress(NoAnswerError):
                            row = load(line, _Row)
                            rows.setdefault(row.custom_id, row)
        return rows

    def _reply(self, question: Question, row: _Row | None) -> Reply:
        requests = self._run.requests
        if row is None:
            return Reply(NoAnswerError("no_answer", "the batch's output has no readable row for this request"), 1)
        tokens = (0, 0)
        try:
            completion = row.answer()
            tokens = completion.tokens(requests.estimate(question))
            return Reply(requests.read(completion), 1, *tokens)
        except NoAnswerError as error:
            return Reply(error, 1, *tokens)
