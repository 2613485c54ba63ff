"""Find and check input files, and read text files."""

import hashlib
import re
from pathlib import Path


def existing_file(path: str | Path, what: str, remedy: str = "check the path") -> Path:
    """Check that a file exists, and return its path.

    Args:
        path: The file.
        what: Description of its content, for the message.
        remedy: What to do if it is missing, for the message.

    Raises:
        FileNotFoundError: The file does not exist.
        IsADirectoryError: It is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected a file: {what}; name the file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {what} not found; {remedy}")
    return path


def read_text(path: str | Path, what: str, remedy: str = "check the path") -> str:
    """Return the content of a UTF-8 file, without a byte order mark. Arguments: `existing_file`.

    Raises:
        ValueError: The file is not UTF-8.
        OSError: As `existing_file`.
    """
    path = existing_file(path, what, remedy)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def existing_folder(path: str | Path, what: str, remedy: str = "check the path") -> Path:
    """Check that a folder exists, and return its path. Arguments: `existing_file`.

    Raises:
        FileNotFoundError: The folder does not exist.
        NotADirectoryError: It is a file.
    """
    path = Path(path)
    if path.is_file():
        raise NotADirectoryError(f"{path}: is a file, expected a folder: {what}; name the folder")
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: {what} not found; {remedy}")
    return path


def matching_files(pattern: str, what: str) -> list[Path]:
    """Return the files that match a pattern in the order of their names, with `part-2` before `part-10`.

    Args:
        pattern: Path, in which the file name may have the wildcards `*`, `?` and `[]`.
        what: What the files are, for the message.

    Raises:
        FileNotFoundError: No file matches.
    """
    path = Path(pattern)
    files = [path] if path.is_file() else [file for file in path.parent.glob(path.name) if file.is_file()]
    if not files:
        raise FileNotFoundError(f"{pattern}: no such file, {what}")
    return sorted(files, key=lambda file: _natural(file.name))


def _natural(name: str) -> list[tuple[str, int]]:
    parts = re.split(r"([0-9]+)", name)  # texts and numbers in turn
    return [(text, int(number or 0)) for text, number in zip(parts[::2], [*parts[1::2], ""], strict=True)]


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):  # hashlib.file_digest needs Python 3.11
            digest.update(block)
    return digest.hexdigest()
