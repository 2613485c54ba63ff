"""Base classes of the steps of `pcclip-data`: a step is a dataclass of options with a method `run`."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from filelock import FileLock, Timeout
from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from data_prep.files import manifest_path
from data_prep.manifest import Manifest
from data_prep.parts import Part
from pcclip.atomic import remove_leftovers
from pcclip.paths import existing_file
from pcclip.validation import explain

INPUT = MappingProxyType({"input": True})
"""Metadata of a field that holds an input file, a list of them, or None. They must exist. The manifest records their hashes."""
UNRECORDED = MappingProxyType({"recorded": False})
"""Metadata of a field that does not affect the content of the output, such as a path or a number of workers."""


@dataclass(kw_only=True)
class Step(ABC):
    """A step of the data preparation. Its fields are its options, which `pcclip-data STEP --help` lists."""

    name: ClassVar[str]
    """Name on the command line, made from the class name: `class_texts` for `ClassTexts`."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()

    def run(self) -> None:
        """Check options and inputs, then do the work.

        Raises:
            FileNotFoundError: An input is missing.
            ValueError: An option or an input is invalid.
        """
        try:
            TypeAdapter(type(self)).validate_python(asdict(self))
        except ValidationError as error:
            raise ValueError(f"{self.name}.{explain(error)}") from error
        _ = self.own_part
        self.check_options()
        for role, file in self.input_files().items():
            what = f"`{role.partition('.')[0]}` of the step {self.name}"
            existing_file(file, what, "check the path, or run the step that writes it first")
        self.work()

    def check_options(self) -> None:  # noqa: B027  # optional in subclasses
        """Check what the types of the fields cannot say.

        Raises:
            ValueError: An option is invalid, or two options conflict.
        """

    def input_files(self) -> dict[str, Path]:
        """Return the input files by role: the name of the field, or `<name>.<index>` for a list."""
        found: dict[str, Path] = {}
        for option in fields(self):
            value = getattr(self, option.name)
            if option.metadata.get("input") and value is not None:
                if isinstance(value, str):
                    found[option.name] = Path(value)
                else:
                    found |= {f"{option.name}.{place}": Path(file) for place, file in enumerate(value)}
        return found

    @property
    def own_part(self) -> Part:
        """The part of the input to process, from the option `part`.

        Raises:
            ValueError: The option is not of the form K/N.
        """
        return Part.parse(getattr(self, "part", None), f"{self.name}.part")

    @abstractmethod
    def work(self) -> None:
        """Do the work. Options and inputs were checked."""


@dataclass(kw_only=True)
class Workers:
    """Option of a step that can use several processes."""

    workers: NonNegativeInt = field(default=2, metadata=UNRECORDED)
    """Number of worker processes; 0 uses none. The output does not depend on it."""


@dataclass(frozen=True)
class Made:
    """What a step made, for its manifest."""

    counts: Mapping[str, int | float]
    """Numbers of items made and left out."""
    left_out: Mapping[str, list[str]] = field(default_factory=dict)
    """Names of left-out items by reason."""
    files: Sequence[Path] = ()
    """Further output files."""
    message: str = ""
    """Text to print after the path of the output."""


@dataclass(kw_only=True)
class OutputStep(Step):
    """A step that writes a file or folder. It does nothing if the output is up to date.

    The output is up to date if output, inputs and options are those in its manifest. Options are all fields except those
    marked as `INPUT` or `UNRECORDED`. A lock lets only one process write an output at a time.
    """

    version: ClassVar[int]
    """Version of the step, increased when the code makes another output from the same input."""

    output: str = field(metadata=UNRECORDED)
    """The file or folder to write."""

    def work(self) -> None:
        """Make the output and write its manifest, unless the output is up to date."""
        output = Path(self.output)
        with self.lock():
            manifest = Manifest(self.name, self.version, self.inputs(), self.settings())
            if self.is_current(manifest):
                print(f"{output} is up to date")
                return
            made = self.make(manifest)
            if made is not None:
                manifest.write(output, made.counts, made.left_out, files=made.files)
                if made.message:
                    print(f"{output}: {made.message}")

    def lock(self) -> AbstractContextManager[None]:
        """Return the lock of the output."""
        return output_lock(Path(self.output))

    def inputs(self) -> Mapping[str, str | Path]:
        """Return the inputs by role: a file to hash, or a hash."""
        return self.input_files()

    def settings(self) -> dict[str, Any]:
        """Return the options that the manifest records. `part` is left out if it is None."""
        left_out = {
            option.name
            for option in fields(self)
            if option.metadata.get("input") or not option.metadata.get("recorded", True)
        }
        settings = {name: value for name, value in asdict(self).items() if name not in left_out}
        if settings.get("part", "") is None:
            del settings["part"]
        return settings

    def is_current(self, manifest: Manifest) -> bool:
        """Return whether the output is up to date."""
        return manifest.matches(Path(self.output))

    @abstractmethod
    def make(self, manifest: Manifest) -> Made | None:
        """Make the output. Return None if the output is incomplete, or if the manifest has been written."""


@contextmanager
def output_lock(output: Path) -> Iterator[None]:
    """Hold the lock of an output, and first delete temporary files that killed processes left next to it.

    The lock is a hidden file next to the output, deleted at the end. The system releases it when the process dies. In a
    read-only folder no lock is needed.

    Raises:
        ValueError: Another process holds the lock, or its file cannot be opened or locked in a writable folder.
    """
    file = output.with_name(f".{output.name}.lock")
    lock = FileLock(file, timeout=0)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ValueError(f"{output}: another process is writing it; wait for it, or stop it") from None
    except OSError as error:
        if os.access(output.parent, os.W_OK | os.X_OK):
            raise ValueError(
                f"{file}: cannot be locked ({error.strerror}). If no process writes {output.name}, delete this file"
            ) from error
    try:
        if lock.is_locked:
            remove_leftovers(output, manifest_path(output))
        yield
    finally:
        if lock.is_locked:
            file.unlink(missing_ok=True)  # `release` keeps it
        lock.release()
