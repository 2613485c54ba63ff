"""Random access to the groups of a shard through an index of its tar.

Python's tarfile treats a damaged header as the end of the file, and needs five times as long to parse a header. This scan
continues at the next valid header, so that damage costs one group, not the rest of the shard.
"""

from __future__ import annotations

import os
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from pcclip.data.damage import DamagedGroupError

BLOCK = 512
MAGIC, MAGIC_AT = b"ustar", 257
SEARCH = 1 << 20  # bytes searched at a time for the next header
REGULAR, EXTENDED = b"0\0", b"xgLK"


@dataclass
class GroupEntry:
    """The members of one group.

    Attributes:
        key: The group's key.
        members: Extension, such as `json` or `00.jpg`, to offset and size.
        lost: Extension of each unreadable member, to the reason.
        damage: Reason why the whole group is unusable, if it is.
    """

    key: str
    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    damage: str | None = None


class TarIndex:
    """Index of the groups of one shard, which reads them from the open file.

    Attributes:
        path: The tar.
        entries: Its groups, in order.
        damage: Reason why groups are missing, if more groups are expected than found.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[GroupEntry] = []
        self.damage = "truncated"
        self._file = -1
        self._file = os.open(path, os.O_RDONLY)
        try:
            self._scan()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    __del__ = close

    def __enter__(self) -> TarIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, place: int, only: Container[str] | None = None) -> dict[str, bytes]:
        """Return the undecoded members of a group by extension: all of them, or those in `only`.

        Raises:
            DamagedGroupError: The shard is damaged before this group, the group is unusable, or reading fails.
        """
        if place >= len(self.entries):
            raise DamagedGroupError(self.damage, f"{self.path}: the group at place {place} cannot be found")
        entry = self.entries[place]
        if entry.damage:
            raise DamagedGroupError(entry.damage, f"{self.path}: group {entry.key}")
        try:
            return {
                name: os.pread(self._file, size, offset)
                for name, (offset, size) in entry.members.items()
                if only is None or name in only
            }
        except OSError as error:
            raise DamagedGroupError("unreadable_file", f"{self.path}: group {entry.key}", error) from error

    def _scan(self) -> None:
        size = os.fstat(self._file).st_size
        known: set[str] = set()
        entry: GroupEntry | None = None
        for name, kind, offset, length in self._headers(size):
            folder, _, file = name.rpartition("/")
            key, dot, extension = file.partition(".")
            if not dot or not key:
                continue
            key = f"{folder}/{key}" if folder else key
            if entry is None or entry.key != key or extension in entry.members or extension in entry.lost:
                entry = GroupEntry(key, damage="duplicate_key" if key in known else None)
                known.add(key)
                self.entries.append(entry)
            if kind not in REGULAR:
                entry.lost[extension] = "foreign_member"
            elif offset + length > size:
                entry.lost[extension] = "truncated"
            else:
                entry.members[extension] = (offset, length)
        if size == 0:
            self.damage = "empty_file"

    def _headers(self, size: int) -> Iterator[tuple[str, bytes, int, int]]:
        """Yield name, type, offset and size of each member. Extended headers are applied to the member after them."""
        position, sound, longer = 0, False, ""
        while position + BLOCK <= size:
            header = os.pread(self._file, BLOCK, position)
            if not header.strip(b"\0"):  # the end, or a part overwritten with zeros
                position = self._next_header(position + BLOCK, size)
                continue
            length = _length(header)
            if length is None:
                self.damage = "broken_header" if sound else "not_a_tar"
                position = self._next_header(position + BLOCK, size)
                continue
            if not sound:
                self.damage, sound = "truncated", True
            kind, start = header[156:157], position + BLOCK
            position = start + -(-length // BLOCK) * BLOCK
            if kind in EXTENDED:
                longer = _long_name(kind, os.pread(self._file, min(length, SEARCH), start)) or longer
                continue
            yield longer or _name(header), kind, start, length
            longer = ""

    def _next_header(self, position: int, size: int) -> int:
        """Find the next tar header at or after `position`. Return its position, or the end of the file."""
        while position < size:
            window = os.pread(self._file, SEARCH + BLOCK, position)
            found = window.find(MAGIC)
            while found >= 0:
                if found >= MAGIC_AT and (found - MAGIC_AT) % BLOCK == 0:
                    self.damage = "broken_header"
                    return position + found - MAGIC_AT
                found = window.find(MAGIC, found + 1)
            position += SEARCH
        return size


def _length(header: bytes) -> int | None:
    """Return the size in a header; None if its checksum is wrong."""
    try:
        if int(header[148:156].strip(b"\0 ") or b"0", 8) != sum(header[:148]) + sum(header[156:]) + 8 * 32:
            return None
        if header[124] & 0x80:  # GNU's encoding of 8 GB and more
            return int.from_bytes(header[125:136], "big")
        length = int(header[124:136].strip(b"\0 ") or b"0", 8)
    except ValueError:
        return None
    return length if length >= 0 else None


def _name(header: bytes) -> str:
    name, prefix = header[:100].split(b"\0", 1)[0], b""
    if header[MAGIC_AT : MAGIC_AT + 6] == b"ustar\0":  # GNU uses the bytes of the prefix for something else
        prefix = header[345:500].split(b"\0", 1)[0]
    return (prefix + b"/" + name if prefix else name).decode("utf-8", "surrogateescape")


def _long_name(kind: bytes, payload: bytes) -> str:
    """Return the name that an extended header gives to the next member; empty if it gives none."""
    if kind == b"L":
        return payload.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    name = ""
    while kind == b"x" and b" " in payload:
        length, _, rest = payload.partition(b" ")
        if not length.isdigit() or not 0 < int(length) <= len(payload):
            break
        record = rest[: int(length) - len(length) - 1]
        if record.startswith(b"path="):
            name = record[5:].rstrip(b"\n").decode("utf-8", "surrogateescape")
        payload = payload[int(length) :]
    return name
