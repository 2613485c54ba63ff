"""Manifests: records of how an output was made. They show whether it is up to date."""

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import InitVar, asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_prep.files import file_state, manifest_path
from pcclip.atomic import atomic_text
from pcclip.paths import sha256_of

PACKAGES = ("pcclip", "numpy", "openai", "pillow", "scikit-learn", "webdataset")
HASHED = (".jsonl", ".json", ".csv", ".yaml", ".md", ".txt")  # further output files; for others the size is recorded


@dataclass
class Manifest:
    """Record of one run of a step. It contains no absolute paths, so that the same run gives the same bytes everywhere.

    Attributes:
        step: Name of the step.
        step_version: Its `version`.
        read: Inputs by role: a file to hash, or a hash. Files must not change during the run.
        inputs: Hash of each input by role, e.g. `captions`.
        options: Options of the step, without paths.
        counts: Numbers of items made and left out.
        left_out: Names of left-out items by reason.
        output: Size and hash of the output; for a shard folder, those of its `dataset.json`. `files` has the hash or size of
            further output files by path, relative to the folder `output` or to the folder of a file `output`.
        versions: Versions of Python and of the packages that affect the output.
    """

    step: str
    step_version: int
    read: InitVar[Mapping[str, str | Path]]
    inputs: dict[str, str] = field(init=False)
    options: dict[str, Any]
    counts: dict[str, int | float] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    output: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def __post_init__(self, read: Mapping[str, str | Path]) -> None:
        self._files = {role: (source, file_state(source)) for role, source in read.items() if isinstance(source, Path)}
        self.inputs = {role: sha256_of(it) if isinstance(it, Path) else it for role, it in read.items()}

    def matches(self, output: Path, *, resumes: bool = False) -> bool:
        """Return whether the step wrote `output` from the same inputs with the same options.

        Args:
            output: The output.
            resumes: Whether the step continues an existing output instead of replacing it.

        Raises:
            ValueError: A file was edited after the step wrote it, and the step would replace it.
        """
        manifest = manifest_path(output)
        if not output.exists() or not manifest.is_file():
            return False
        try:
            found = json.loads(manifest.read_text(encoding="utf-8"))
        except ValueError:  # not JSON, or not UTF-8
            return False
        if not isinstance(found, dict) or not isinstance(found.get("output"), dict):
            return False
        unchanged = True
        for place, edited in _changes(output, found["output"]):
            if edited and not resumes:
                raise ValueError(
                    f"{place}: edited since the step wrote it. Delete it to make it again, or rename it to keep the edit, and "
                    "give the next step the new name"
                )
            unchanged = False
        mine = json.loads(json.dumps(asdict(self)))
        return unchanged and all(found.get(key) == mine[key] for key in ("step", "step_version", "inputs", "options"))

    def write(
        self,
        output: Path,
        counts: Mapping[str, int | float],
        left_out: Mapping[str, list[str]] | None = None,
        *,
        written: Path | None = None,
        files: Sequence[Path] = (),
    ) -> None:
        """Complete the record and write it next to `output`.

        Args:
            output: The output.
            counts: Numbers of items made and left out.
            left_out: Names of left-out items by reason.
            written: Where the output is for now, if it will be moved to `output`.
            files: Further output files.

        Raises:
            ValueError: An input was changed during the run.
        """
        self.complete(counts, left_out)
        self.output = _content(written or output)
        if files:
            self.output["files"] = {os.path.relpath(file, _folder(output)): _fingerprint(file) for file in files}
        with atomic_text(manifest_path(output)) as stream:
            stream.write(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    def complete(self, counts: Mapping[str, int | float], left_out: Mapping[str, list[str]] | None = None) -> None:
        """Fill in counts, left-out items and versions.

        Raises:
            ValueError: An input was changed during the run.
        """
        for role, (file, state) in self._files.items():
            if file_state(file) != state and sha256_of(file) != self.inputs[role]:
                raise ValueError(f"{file}: changed while the step {self.step} read it; run the step again")
        self.counts = dict(counts)
        self.left_out = {reason: names for reason, names in (left_out or {}).items() if names}
        self.versions = {"python": platform.python_version(), **package_versions()}


def _content(output: Path) -> dict[str, Any]:
    # The name is `pcclip.data.format.DATASET_FILE`; that module is slow to import.
    file = output / "dataset.json" if output.is_dir() else output
    return {"bytes": file.stat().st_size, "sha256": sha256_of(file)} if file.is_file() else {}


def _folder(output: Path) -> Path:
    return output if output.is_dir() else output.parent


def _changes(output: Path, written: Mapping[str, Any]) -> Iterator[tuple[Path, bool]]:
    """Yield files that differ from the record `written`, each with whether it was edited. A missing file is no edit."""
    content = {key: value for key, value in written.items() if key != "files"}
    if content != _content(output):
        yield output, bool(content) and output.is_file()
    for name, recorded in written.get("files", {}).items():
        file = _folder(output) / name
        if (found := _fingerprint(file)) != recorded:
            yield file, isinstance(found, type(recorded))  # other types: another version recorded its size


def _fingerprint(file: Path) -> str | int | None:
    """Return the hash of a text or table, the size of another file, or None if it is missing."""
    if not file.is_file():
        return None
    return sha256_of(file) if file.suffix in HASHED else file.stat().st_size


def files_below(folder: Path) -> list[Path]:
    """Return all files below a folder."""
    return [file for file in sorted(folder.rglob("*")) if file.is_file()]


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that affect the output."""
    return {package: version(package) for package in PACKAGES}
