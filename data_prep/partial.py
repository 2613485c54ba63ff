"""The folder of a shard folder that is not finished yet, so that a run goes on where the last one ended."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.manifest import Manifest
from pcclip.atomic import atomic_text, remove_temporary
from pcclip.data.format import DatasetInfo


@dataclass(frozen=True)
class PartialFolder:
    """The folder `<output>.partial`: `plan.json`, `shards/`, and in `records/` a file for each finished shard.

    The holder of the output's lock calls `begin` and `publish`; any process may write shards in between.

    Attributes:
        output: The shard folder to be.
    """

    output: Path

    @property
    def folder(self) -> Path:
        """The folder itself."""
        return self.output.with_name(self.output.name + ".partial")

    @property
    def shards(self) -> Path:
        """The folder of the shards."""
        return self.folder / "shards"

    def begin(self, plan: Mapping[str, Any]) -> None:
        """Prepare the folder. It is emptied if it is of another plan."""
        file = self.folder / "plan.json"
        text = json.dumps(plan)
        if not self.shards.is_dir() or not file.is_file() or file.read_text(encoding="utf-8") != text:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.shards.mkdir(parents=True)
            with atomic_text(file) as stream:
                stream.write(text)
        for folder in (self.shards, self.folder / "records"):
            remove_temporary(folder)

    def record(self, name: str, content: Mapping[str, Any]) -> None:
        """Remember a finished shard. `content` holds its `ShardInfo` as `shard`."""
        with atomic_text(self._record(name)) as stream:
            stream.write(json.dumps(content))

    def recorded(self, name: str) -> dict[str, Any] | None:
        """Return what was recorded of a shard; None if it is not finished or not whole any more."""
        try:
            content: dict[str, Any] = json.loads(self._record(name).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        size, path = content["shard"]["bytes"], self.shards / name
        return content if size == 0 or (path.is_file() and path.stat().st_size == size) else None

    def _record(self, name: str) -> Path:
        return self.folder / "records" / (name + ".json")

    def publish(self, info: DatasetInfo, manifest: Manifest, inputs: Mapping[str, str]) -> None:
        """Describe the shards by `info`, and let their folder replace the output. A kill in between costs no shard.

        Args:
            info: The description.
            manifest: The run's manifest, completed.
            inputs: Hashes of the inputs, to go into `info`.
        """
        made_by = {**asdict(manifest), "inputs": inputs}
        del made_by["output"]
        info.made_by = made_by
        info.write(self.shards)
        shutil.rmtree(self.output, ignore_errors=True)
        manifest.write(self.output, manifest.counts, manifest.left_out, written=self.shards)
        self.shards.replace(self.output)
        shutil.rmtree(self.folder)

    def is_published(self, manifest: Manifest) -> bool:
        """Return whether the output is up to date and none of its shards is missing or cut short."""
        if not manifest.matches(self.output):
            return False
        try:
            DatasetInfo.read(self.output)
        except (ValueError, FileNotFoundError):
            return False
        if not self.shards.exists():  # killed at the very end of `publish`
            shutil.rmtree(self.folder, ignore_errors=True)
        return True
