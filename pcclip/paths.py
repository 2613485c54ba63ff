"""Check that an input path is there and of the right kind, and read text."""

import hashlib
from pathlib import Path


def existing_file(path: str | Path, what: str, remedy: str = "check the path") -> Path:
    """Return the path of a file that must be there.

    Args:
        path: The file.
        what: What it holds, for messages.
        remedy: What to do if nothing is there.

    Raises:
        FileNotFoundError: Nothing is there.
        IsADirectoryError: It is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, expected a file: {what}; name the file")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: {what} not found; {remedy}")
    return path


def read_text(path: str | Path, what: str, remedy: str = "check the path") -> str:
    """Return the content of a UTF-8 file, without a byte order mark. The arguments are those of `existing_file`.

    Raises:
        ValueError: It is not UTF-8.
        OSError: As `existing_file`.
    """
    path = existing_file(path, what, remedy)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error


def existing_folder(path: str | Path, what: str, remedy: str = "check the path") -> Path:
    """Return the path of a folder that must be there. The arguments are those of `existing_file`.

    Raises:
        FileNotFoundError: Nothing is there.
        NotADirectoryError: It is a file.
    """
    path = Path(path)
    if path.is_file():
        raise NotADirectoryError(f"{path}: is a file, expected a folder: {what}; name the folder")
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: {what} not found; {remedy}")
    return path


def sha256_of(path: Path) -> str:
    """Return the hex sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):  # hashlib.file_digest needs Python 3.11
            digest.update(block)
    return digest.hexdigest()
