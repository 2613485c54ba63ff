"""A server that makes the faults of real endpoints, and a step that asks it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from data_prep.llm import client, journal
from tests.data_prep.conftest import Rows
from tests.helpers.fault_server import FaultServer, running_server
from tests.helpers.pair_files import model_options, write_pairs


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(client, "LONGEST_BACKOFF", 0.02)
    monkeypatch.setattr(journal, "SECOND_TRY_AFTER", 0.0)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with running_server() as running:
        yield running


@dataclass
class Describer:
    """The step `describe` in a folder, with a server's model."""

    folder: Path
    server: FaultServer
    backend: str = "openai"

    @property
    def output(self) -> Path:
        return self.folder / "differences.jsonl"

    def write(self, count: int) -> None:
        """Write `captions.jsonl` and `pairs.jsonl` with the pairs p0, p1, ..."""
        write_pairs(self.folder, count)

    def run(self, **options: Any) -> None:
        model_options(self.folder, self.server, **{"backend": self.backend, **options}).run()

    def arguments(self, **options: Any) -> list[str]:
        """Arguments of the command that does the same."""
        step = model_options(self.folder, self.server, **options)
        given = {name: getattr(step, name) for name in ("pairs", "captions", "output", "backend", "base_url", "model")}
        config = self.folder / "config.yaml"
        config.write_text(json.dumps({"describe": {**given, **options}}))
        return ["describe", "--config", str(config)]

    def fails(self, *named: str, **options: Any) -> str:
        """Run, and return the message of the error, which must hold these words. Default: the file of the failures."""
        words = named or ("differences.failures.jsonl", "retry_failed")
        with pytest.raises(ValueError, match="(?s)" + "".join(f"(?=.*{re.escape(word)})" for word in words)) as error:
            self.run(**options)
        return str(error.value)

    def rows(self) -> Rows:
        return [json.loads(line) for line in self.output.read_text(encoding="utf-8").splitlines()]

    def texts(self) -> set[str]:
        """Ids of the pairs with texts."""
        rows = self.rows()
        assert len({row["pair_id"] for row in rows}) == len(rows)
        return {row["pair_id"] for row in rows}

    def failures(self) -> dict[str, str]:
        """Reasons of the failures by id."""
        file = self.folder / "differences.failures.jsonl"
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
        assert len({row["pair_id"] for row in rows}) == len(rows)
        return {row["pair_id"]: row["reason"] for row in rows}

    def manifest(self) -> dict[str, Any] | None:
        file = self.folder / "differences.jsonl.manifest.json"
        return json.loads(file.read_text()) if file.exists() else None


@pytest.fixture
def describer(tmp_path: Path, server: FaultServer) -> Describer:
    return Describer(tmp_path, server)


def ids(*numbers: int) -> set[str]:
    """Ids of pairs."""
    return {f"p{number}" for number in numbers}


Capture = pytest.CaptureFixture[str]
