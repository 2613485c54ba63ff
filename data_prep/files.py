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
    """Write one JSON object a line, atomically, and return how many. The manifest of an earlier file is removed."""
    count = 0
    with atomic_text(path) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
        manifest_path(path).unlink(missing_ok=True)
    return count


def read_jsonl(path: Path, required: Mapping[str, type]) -> Iterator[tuple[int, Row]]:
    """Read JSON Lines and yield (line number from 1, row); blank lines are passed over.

    Args:
        path: The file.
        required: Keys that every row must have, and their types.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: A line is not a JSON object, or a required key is missing or of another type.
    """
    for number, _, row in read_jsonl_with_offsets(path, required):
        yield number, row


def read_jsonl_with_offsets(path: Path, required: Mapping[str, type]) -> Iterator[tuple[int, int, Row]]:
    """As `read_jsonl`, with the byte at which each line begins: (line number, offset, row)."""
    existing_file(path, "file", "check the path, or run the step that writes it first")
    offset = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield number, offset, parse_row(line, f"{path}, line {number}", required)
            offset += len(line)


def parse_row(line: bytes, where: str, required: Mapping[str, type]) -> Row:
    """Parse one line of JSON Lines; `where` is file and line, for messages.

    Raises:
        ValueError: Not a JSON object, or a required key is missing or of another type.
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
        if not _all_say_something(row["captions"]):
            raise ValueError(f"{where}: `captions` must hold texts, none of them empty, found {row['captions']}")
        if b"\\u" in line and SURROGATE.search(json.dumps(row, ensure_ascii=False)):
            raise ValueError(f"{where}: holds half a surrogate pair, which is no text; fix or delete the line")
    return row


def _all_say_something(captions: list[object]) -> bool:
    try:
        return all(map(str.strip, captions))  # type: ignore[arg-type]  # fast, and of others it raises
    except TypeError:
        return False


def clean(captions: Iterable[object]) -> list[str]:
    """Return the captions that are texts and say something, without space around them."""
    return [text for caption in captions if isinstance(caption, str) and (text := caption.strip())]


CAPTION_KEYS: Mapping[str, type] = {"id": str, "file": str, "captions": list}
PAIR_KEYS: Mapping[str, type] = {"pair_id": str, "group": str, "first": str, "second": str}
DIFFERENCE_KEYS: Mapping[str, type] = {**PAIR_KEYS, "text": str, "reverse_text": str}


def read_captions(path: Path) -> Iterator[tuple[int, Row]]:
    """Read a `captions.jsonl` and yield (line number, row), with every id seen once.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: A bad row, or an id that occurs twice.
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


def image_path(captions: Path, row: Row) -> Path:
    """Where the image of a captions row lies: `file` is relative to the folder of `captions`, or absolute."""
    return captions.parent / str(row["file"])


def image_reference(image: Path, captions: Path) -> str:
    """What to write as `file`: relative if the image lies under the folder of `captions`, else absolute."""
    image, folder = image.absolute(), captions.parent.absolute()
    return image.relative_to(folder).as_posix() if image.is_relative_to(folder) else str(image)


def file_state(path: Path) -> tuple[int, int]:
    """Return the size of a file and when it was changed, in nanoseconds; (-1, 0) for what is not a regular file."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # the latter for names that no file can have
        return -1, 0
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else (-1, 0)


def states_hash(files: Iterable[tuple[str, Path]]) -> str:
    """Return the hex sha256 over names, sizes and times of change of files.

    Stands in for the hash of their content, which for large image sets would take as long as the step itself.
    """
    digest = hashlib.sha256()
    for name, path in files:
        digest.update("{}\0{}\0{}\n".format(name, *file_state(path)).encode(errors="surrogatepass"))
    return digest.hexdigest()
