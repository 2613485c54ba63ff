"""An endpoint's batch API: upload, submit, look, download."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import openai

from data_prep.llm.options import ModelOptions
from pcclip.atomic import atomic_path

T = TypeVar("T")

RETRIES = 5  # by the client library: these are few requests
ENDED = ("completed", "expired", "cancelled")  # the latter two with what was answered until then


class BatchEndpoint:
    """The batch API of an endpoint. Use it as a context manager."""

    def __init__(self, options: ModelOptions) -> None:
        self._clean = options.clean
        self._client = openai.OpenAI(base_url=options.base_url, api_key=options.api_key(), max_retries=RETRIES)

    def __enter__(self) -> BatchEndpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def upload(self, file: Path) -> str:
        """Upload a batch's input and return its name at the endpoint."""
        return self._try(lambda: self._client.files.create(file=file, purpose="batch")).id

    def submit(self, file_id: str) -> str:
        """Submit an uploaded file and return the batch's name."""
        return self._try(
            lambda: self._client.batches.create(
                input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        ).id

    def find(self, file_id: str) -> str:
        """Name of the batch of an uploaded file, or empty if it was not submitted."""
        return self._try(
            lambda: next((batch.id for batch in self._client.batches.list() if batch.input_file_id == file_id), "")
        )

    def finished(self, batch_id: str) -> tuple[str | None, str | None] | None:
        """Names of the output and the error file of a batch that has ended, or None while it goes on.

        Raises:
            ValueError: The batch as a whole failed.
        """
        batch = self._try(lambda: self._client.batches.retrieve(batch_id))
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
        """Fetch a file whole, or leave an empty one if there is none."""
        with atomic_path(path) as temporary:
            if file_id is not None:
                self._try(lambda: self._fetch(file_id, temporary))

    def _fetch(self, file_id: str, path: Path) -> None:
        with self._client.files.with_streaming_response.content(file_id) as response:
            response.stream_to_file(path)

    def _try(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except openai.OpenAIError as error:
            raise ValueError(f"{self._client.base_url}: {self._clean(str(error))}; run again to go on") from None
