"""An endpoint's batch API: upload, submit, poll, download."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai

from data_prep.llm.options import ModelOptions
from pcclip.atomic import atomic_path

RETRIES = 5  # by the client library: these are few requests
ENDED = ("completed", "expired", "cancelled")  # the latter two with what was answered until then


class BatchEndpoint:
    """The batch API of an endpoint. All methods raise ValueError if the endpoint fails."""

    def __init__(self, options: ModelOptions) -> None:
        self._clean = options.clean
        self._client = openai.OpenAI(base_url=options.base_url, api_key=options.api_key(), max_retries=RETRIES)

    def upload(self, file: Path) -> str:
        """Upload a batch's input and return its name at the endpoint."""
        with self._named_errors():
            return self._client.files.create(file=file, purpose="batch").id

    def submit(self, file_id: str) -> str:
        """Submit an uploaded file and return the batch's name."""
        with self._named_errors():
            return self._client.batches.create(
                input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
            ).id

    def find(self, file_id: str) -> str:
        """Return the name of the batch of an uploaded file, or an empty text if it was not submitted."""
        with self._named_errors():
            return next((batch.id for batch in self._client.batches.list() if batch.input_file_id == file_id), "")

    def finished(self, batch_id: str) -> tuple[str | None, str | None] | None:
        """Return the names of the output and the error file of a batch that has ended, or None while it goes on.

        Raises:
            ValueError: The batch as a whole failed.
        """
        with self._named_errors():
            batch = self._client.batches.retrieve(batch_id)
        counts = batch.request_counts
        done = f", {counts.completed} of {counts.total} answered, {counts.failed} failed" if counts else ""
        print(f"{time.strftime('%H:%M:%S')} batch {batch_id}: {batch.status}{done}", flush=True)
        if batch.status == "failed":
            errors = "; ".join(str(error.message) for error in (batch.errors and batch.errors.data) or [])
            raise ValueError(
                f"batch {batch_id} failed as a whole: {self._clean(errors)}; delete its folder to write it again"
            )
        return (batch.output_file_id, batch.error_file_id) if batch.status in ENDED else None

    def download(self, file_id: str | None, path: Path) -> None:
        """Download a file, or leave an empty one if there is none."""
        with self._named_errors(), atomic_path(path) as temporary:
            if file_id is not None:
                with self._client.files.with_streaming_response.content(file_id) as response:
                    response.stream_to_file(temporary)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except openai.OpenAIError as error:
            raise ValueError(f"{self._client.base_url}: {self._clean(str(error))}; run again to go on") from None
