"""The same questions by way of batch files: written, submitted, waited for and collected, each stage once.

A file has the format of OpenAI's batch API, which `vllm run-batch -i NNNN.in.jsonl -o NNNN.out.jsonl` reads and writes too.
Files and state lie in a folder next to the output; the state is saved after every step, so that a run that dies anywhere goes
on where it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.files import read_jsonl
from data_prep.llm.batch_api import BatchEndpoint
from data_prep.llm.batch_responses import Responses, reported_failure
from data_prep.llm.client import Reply
from data_prep.llm.journal import Hashes, Journal
from data_prep.llm.options import ANSWER_FORMATS, ModelOptions
from data_prep.llm.replies import FailedAnswerError, MalformedReplyError, read_usage
from data_prep.llm.runner import Totals, check_journal, question_hashes, record, wanted
from data_prep.llm.task import Question, Requests, Task, UnaskableError, estimate_tokens
from data_prep.manifest import Manifest
from data_prep.parts import hash64
from pcclip.atomic import atomic_text

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000


@dataclass
class Batch:
    """One batch file and how far it has come.

    Attributes:
        number: Of its files.
        requests: How many it holds.
        stage: `written`, `uploaded`, `submitting`, `submitted`, `fetched` or `collected`.
        file_id: The uploaded file's name at the endpoint.
        batch_id: The batch's name at the endpoint.
    """

    number: int
    requests: int
    stage: str = "written"
    file_id: str = ""
    batch_id: str = ""


class BatchFolder:
    """The batch files of an output and their state.

    Raises:
        ValueError: The files were written with other settings.
    """

    def __init__(self, output: Path, settings: str) -> None:
        self.path = output.with_name(f"{output.stem}.batch")
        self._settings = settings
        self.batches: list[Batch] = []
        if self.state.is_file():
            found = json.loads(self.state.read_text(encoding="utf-8"))
            if found["settings"] != settings:
                raise ValueError(
                    f"{self.state}: written with other settings than this run's; choose another `output`, "
                    f"or delete {self.path} to start again"
                )
            self.batches = [Batch(**batch) for batch in found["batches"]]

    @property
    def state(self) -> Path:
        """The file with the state."""
        return self.path / "state.json"

    @property
    def open(self) -> list[Batch]:
        """Batches whose answers are not in the journal yet."""
        return [batch for batch in self.batches if batch.stage != "collected"]

    def file(self, batch: Batch, kind: str) -> Path:
        """A batch's file: `in`, `out` or `errors`."""
        return self.path / f"{batch.number:04d}.{kind}.jsonl"

    def save(self) -> None:
        """Write the state."""
        with atomic_text(self.state) as stream:
            json.dump(
                {"settings": self._settings, "batches": [asdict(batch) for batch in self.batches]}, stream, indent=1
            )


def answer_in_batches(
    task: Task, requests: Requests, options: ModelOptions, output: Path, manifest: Manifest
) -> Totals:
    """Take the batches as far as they come in this run.

    With `batch_submit` the run waits for the endpoint. Without, a first run writes the files, and a later one collects from
    the `out` files that another program has written.

    Raises:
        ValueError: A bad input, journal or state, or an endpoint that refuses.
    """
    hashes = question_hashes(task)
    with Journal(output, task.id_key, requests.settings_digest) as journal:
        check_journal(task, requests, journal, hashes, manifest)
        run = _Run(task, requests, options, journal, BatchFolder(output, requests.settings_digest), hashes)
        run.advance()
    return run.totals


class _Run:
    def __init__(
        self,
        task: Task,
        requests: Requests,
        options: ModelOptions,
        journal: Journal,
        folder: BatchFolder,
        hashes: Hashes,
    ) -> None:
        self.task, self.requests, self.options, self.journal, self.folder = task, requests, options, journal, folder
        self.hashes = hashes
        self.totals = Totals.of(journal, hashes)

    def advance(self) -> None:
        if not self.folder.open:
            self._write()
        if self.options.batch_submit and self.folder.open:
            self._submit_and_fetch()
        for batch in self.folder.open:
            if self.folder.file(batch, "out").is_file() or self.folder.file(batch, "errors").is_file():
                self._collect(batch)
            else:
                inputs, outputs = self.folder.file(batch, "in"), self.folder.file(batch, "out")
                print(f"waiting for {outputs}; make it, e.g. by: vllm run-batch -i {inputs} -o {outputs} --model ...")
                self.totals.stopped = "batch files"
        if self.totals.missing and not self.totals.stopped:
            self.totals.stopped = "limit"

    def _write(self) -> None:
        """Write files of what is missing; they count only once the state names them."""
        lines = islice(self._lines(), self.options.limit)
        for first in lines:
            batch = Batch(len(self.folder.batches), 0)
            size, rest = 0, chain([first], lines)
            with atomic_text(self.folder.file(batch, "in")) as stream:
                for line in rest:
                    batch.requests += 1
                    size += len(line.encode())
                    stream.write(line)
                    # the next line may be as long as this one, and a little longer
                    if batch.requests == MOST_REQUESTS or size + 2 * len(line.encode()) > MOST_BYTES:
                        break
            self.folder.batches.append(batch)
            print(f"{self.folder.file(batch, 'in')}: {batch.requests} requests, {size} bytes")
        if self.folder.open:
            self.folder.save()

    def _lines(self) -> Iterator[str]:
        answer_format = ANSWER_FORMATS[1] if self.options.answer_format == "auto" else self.options.answer_format
        cost = self.totals.cost(self.options)
        asked = wanted(self.journal.done, self.journal.failed, self.hashes, self.options.retry_failed)
        for question in self.task.questions(asked):
            try:
                messages = self.requests.messages(question)
            except UnaskableError as error:
                self._record(question, Reply(reason=error.reason, detail=str(error)))
                continue
            cost += self.options.cost(estimate_tokens(messages), self.options.most_answer_tokens)
            if self.options.max_cost is not None and cost > self.options.max_cost:
                self.totals.stopped = "max_cost"
                return
            row = {
                "custom_id": self._custom_id(question),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": self.requests.body(messages, answer_format),
            }
            yield json.dumps(row, ensure_ascii=False) + "\n"

    def _custom_id(self, question: Question) -> str:
        return f"{question.id}|{self.requests.key(question).partition('-')[2]}"

    def _submit_and_fetch(self) -> None:
        folder = self.folder
        with BatchEndpoint(self.options) as endpoint:
            for batch in folder.open:
                if batch.stage == "written":
                    batch.file_id, batch.stage = endpoint.upload(folder.file(batch, "in")), "uploaded"
                    folder.save()
                if batch.stage == "submitting":  # died in between: it may have been taken, or not
                    batch.batch_id = endpoint.find(batch.file_id)
                    batch.stage = "submitted" if batch.batch_id else "uploaded"
                if batch.stage == "uploaded":
                    batch.stage = "submitting"
                    folder.save()
                    batch.batch_id, batch.stage = endpoint.submit(batch.file_id), "submitted"
                folder.save()
            for batch in folder.open:
                while batch.stage == "submitted":
                    files = endpoint.finished(batch.batch_id)
                    if files is None:
                        time.sleep(self.options.batch_poll)
                        continue
                    for kind, file_id in zip(("out", "errors"), files, strict=True):
                        endpoint.download(file_id, folder.file(batch, kind))
                    batch.stage = "fetched"
                    folder.save()

    def _collect(self, batch: Batch) -> None:
        """Write a batch's answers and failures into the journal."""
        file = self.folder.file(batch, "in")
        names = {row["custom_id"] for _, row in read_jsonl(file, {"custom_id": str})}
        ids = np.array([hash64(name.rpartition("|")[0]) for name in names], dtype=np.uint64)
        with Responses([self.folder.file(batch, kind) for kind in ("out", "errors")]) as responses:
            for question in self.task.questions(np.isin(self.hashes, ids) & ~self.journal.done.have(self.hashes)):
                custom_id = self._custom_id(question)
                if custom_id not in names:
                    raise ValueError(
                        f"{file}: {question.id!r} was asked of other captions than the input holds now; "
                        f"choose another `output`, or delete {self.folder.path} and the output to start again"
                    )
                self._record(question, self._reply(question, responses.get(custom_id)))
        batch.stage = "collected"
        self.folder.save()

    def _reply(self, question: Question, row: dict[str, Any] | None) -> Reply:
        reply = Reply(attempts=1)
        if row is None:
            reply.reason, reply.detail = "no_answer", "the batch's output has no readable row for this request"
            return reply
        response = row.get("response")
        response = response if isinstance(response, dict) else {}
        body = response.get("body")
        try:
            if row.get("error") or response.get("status_code") != 200:
                raise reported_failure(row.get("error") or body, response.get("status_code"))
            estimate = estimate_tokens(self.requests.prompt.messages(question.values, [""] * len(question.pictures)))
            reply.prompt_tokens, reply.completion_tokens = read_usage(body, estimate)
            reply.values = self.requests.read(body)
        except MalformedReplyError as error:
            reply.reason, reply.detail = "malformed", self.options.clean(str(error))
        except FailedAnswerError as error:
            reply.reason, reply.detail = self.options.clean(error.reason), self.options.clean(str(error))
        return reply

    def _record(self, question: Question, reply: Reply) -> None:
        record(self.task, self.requests, question, reply, self.journal, self.totals)
