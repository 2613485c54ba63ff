"""Manifests: what made a step's output, and whether it has to be made again."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pcclip.atomic import atomic_text

PACKAGES = ("pcclip", "numpy", "openai", "pillow", "scikit-learn", "webdataset")


@dataclass
class Manifest:
    """Record of one run of a step. It holds no time and no path, so that the same run gives the same bytes anywhere.

    Attributes:
        step: The step's name.
        step_version: Raised when the step's code makes other output of the same input.
        inputs: Hash of each input by its role, e.g. `captions`.
        options: The step's options, less its paths.
        counts: What was made, and what was left out and why.
        left_out: Names of left-out items by reason.
        versions: Versions of Python and of the packages that shape the output.
    """

    step: str
    step_version: int
    inputs: dict[str, str]
    options: dict[str, Any]
    counts: dict[str, int | float] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def matches(self, output: Path) -> bool:
        """Whether `output` exists and was made by the same step from the same inputs with the same options."""
        file = manifest_path(output)
        if not output.exists() or not file.is_file():
            return False
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except json.JSONDecodeError:
            return False  # a torn manifest proves nothing: make the output again
        mine = json.loads(json.dumps(asdict(self)))
        keys = ("step", "step_version", "inputs", "options")
        return isinstance(found, dict) and all(found.get(key) == mine[key] for key in keys)

    def write(
        self, output: Path, counts: Mapping[str, int | float], left_out: Mapping[str, list[str]] | None = None
    ) -> None:
        """Complete the record and write it beside `output`."""
        self.complete(counts, left_out)
        with atomic_text(manifest_path(output)) as stream:
            stream.write(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    def complete(self, counts: Mapping[str, int | float], left_out: Mapping[str, list[str]] | None = None) -> None:
        """Fill in counts, left-out items and versions."""
        self.counts = dict(counts)
        self.left_out = {reason: names for reason, names in (left_out or {}).items() if names}
        self.versions = {"python": platform.python_version(), **package_versions()}


def manifest_path(output: Path) -> Path:
    """`<output>.manifest.json`, beside the output."""
    return output.with_name(output.name + ".manifest.json")


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that shape the output."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
