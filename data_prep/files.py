"""Read and write the JSON Lines files between the steps."""

import hashlib
import json
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pcclip.atomic import atomic_text
from pcclip.paths import existing_file

Row = dict[str, Any]
SURROGATE = re.compile("[\ud800-\udfff]")


def manifest_path(output: Path) -> Path:
    """Return `<output>.manifest.json`, next to the output."""
    return output.with_name(output.name + ".manifest.json")


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write JSON Lines atomically and return the number of rows. The manifest of an earlier file is deleted."""
    count = 0
    with atomic_text(path) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
        manifest_path(path).unlink(missing_ok=True)
    return count


def read_jsonl(path: Path, required: Mapping[str, type]) -> Iterator[tuple[int, Row]]:
    """Read JSON Lines and yield (line number from 1, row). Blank lines are skipped.

    Args:
        path: The file.
        required: Required keys and their types.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: A line is not a JSON object, or a required key is missing or has another type.
    """
    for number, _, row in read_jsonl_with_offsets(path, required):
        yield number, row


def read_jsonl_with_offsets(path: Path, required: Mapping[str, type]) -> Iterator[tuple[int, int, Row]]:
    """As `read_jsonl`, but yield (line number, byte offset of the line, row)."""
    existing_file(path, "file", "check the path, or run the step that writes it first")
    offset = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, offset, parse_row(line, f"{path}, line {number}", required)
            offset += len(line)


def parse_row(line: bytes, where: str, required: Mapping[str, type]) -> Row:
    """Parse one line of JSON Lines.

    Args:
        line: The line.
        where: File and line number, for errors.
        required: Required keys and their types. Captions must be non-empty texts.

    Raises:
        ValueError: The line is not a JSON object, or a required key is missing or has another type.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not valid JSON ({error}); fix or delete the line") from error
    if not isinstance(row, dict):
        raise ValueError(f"{where}: expected a JSON object, found {type(row).__name__}")
    for key, kind in required.items():
        if not isinstance(row.get(key), kind):
            found = f"found {row[key]!r}" if key in row else "the key is missing"
            raise ValueError(f"{where}: `{key}` must be a {kind.__name__}, {found}")
    if required.get("captions") is list:
        try:
            said = all(map(str.strip, row["captions"]))  # fast; raises for other types
        except TypeError:
            said = False
        if not said:
            raise ValueError(f"{where}: `captions` must be non-empty texts, found {row['captions']}")
        if b"\\u" in line and SURROGATE.search(json.dumps(row, ensure_ascii=False)):
            raise ValueError(f"{where}: contains a lone surrogate, which is not valid Unicode; fix or delete the line")
    return row


def clean(captions: Iterable[object]) -> list[str]:
    """Return the non-empty texts among captions, without surrounding white space."""
    return [text for caption in captions if isinstance(caption, str) and (text := caption.strip())]


CAPTION_KEYS: Mapping[str, type] = {"id": str, "file": str, "captions": list}
PAIR_KEYS: Mapping[str, type] = {"pair_id": str, "group": str, "first": str, "second": str}
DIFFERENCE_KEYS: Mapping[str, type] = {**PAIR_KEYS, "text": str, "reverse_text": str}


def read_captions(path: Path) -> Iterator[tuple[int, Row]]:
    """Read a `captions.jsonl` and yield (line number, row). Check that ids are unique.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: A row is bad, or an id occurs twice.
    """
    seen: set[str] = set()
    for number, row in read_jsonl(path, CAPTION_KEYS):
        if row["id"] in seen:
            earlier = next(line for line, other in read_jsonl(path, CAPTION_KEYS) if other["id"] == row["id"])
            raise ValueError(
                f"{path}, line {number}: image id {row['id']!r} was already used in line {earlier}; ids must be unique"
            )
        seen.add(row["id"])
        yield number, row


EMBEDDING_ROW = "embedding_row"
"""Key of a captions row whose `file` is a `.npy` file of stored embeddings: the row in that file."""


def image_path(captions: Path, row: Row) -> Path:
    """Return the path of a row's image. `file` is absolute, or relative to the folder of the `captions` file."""
    return captions.parent / str(row["file"])


def image_reference(image: Path, captions: Path) -> str:
    """Return the value of `file` for an image: relative if it is below the folder of the `captions` file, else absolute."""
    image, folder = image.absolute(), captions.parent.absolute()
    return image.relative_to(folder).as_posix() if image.is_relative_to(folder) else str(image)


def file_state(path: Path) -> tuple[int, int]:
    """Return size and modification time (ns) of a file, or (-1, 0) if it is not a regular file."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # ValueError: not a valid file name
        return -1, 0
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else (-1, 0)


def states_hash(files: Iterable[tuple[str, Path]]) -> str:
    """Return the hex sha256 over names, sizes and modification times of files.

    Hashing the content of a large image set would take as long as the step itself.
    """
    digest = hashlib.sha256()
    for name, path in files:
        digest.update("{}\0{}\0{}\n".format(name, *file_state(path)).encode(errors="surrogatepass"))
    return digest.hexdigest()
