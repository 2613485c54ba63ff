"""The index of a JSON Lines file finds what reading the whole file finds."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.line_index import LineIndex

ROWS = [{"name": "b", "n": 0}, {"name": "a", "n": 1}, {"name": "b", "n": 2}, {"name": "ü\u2028", "n": 3}]


def write(folder: Path, rows: list[dict[str, object]]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n\n" for row in rows), encoding="utf-8")
    return file


def test_rows_are_found_in_the_order_of_the_file(tmp_path: Path) -> None:
    with LineIndex(write(tmp_path, ROWS), {"name": str}, "name") as index:
        assert index.rows("b") == [(1, ROWS[0]), (5, ROWS[2])]
        assert index.get("ü\u2028") == ROWS[3]
        assert index.rows("c") == []
        assert index.get("c") is None


SCRIPT = """
import json, resource, sys
from pathlib import Path
from data_prep.line_index import LineIndex
folder = Path(sys.argv[1])
file = folder / "rows.jsonl"
file.write_text("".join(json.dumps({"name": str(number)}) + "\\n" for number in range(100_000)))  # more than stays in memory
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
with LineIndex(file, {"name": str}, "name") as index:
    assert index.get("7") == {"name": "7"}
    print(*(path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()))
"""


def run_script(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    scratch = folder / "scratch"
    scratch.mkdir()
    (folder / "script.py").write_text(SCRIPT)
    return subprocess.run(
        [sys.executable, str(folder / "script.py"), str(folder), *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for open files in /proc")
def test_the_index_has_no_name_that_a_killed_process_could_leave(tmp_path: Path) -> None:
    process = run_script(tmp_path, "")
    assert re.search(rf"{tmp_path}/scratch/\S+ \(deleted\)", process.stdout), process.stderr
    assert not list((tmp_path / "scratch").iterdir())


def test_a_full_temporary_folder_is_named(tmp_path: Path) -> None:
    process = run_script(tmp_path, "full")
    assert str(tmp_path / "scratch") in process.stderr.splitlines()[-1]
    assert process.stderr.splitlines()[-1].startswith("OSError")


def test_values_that_must_be_unique(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"rows.jsonl, line 5: `name` 'b' was already used in line 1"):
        LineIndex(write(tmp_path, ROWS), {"name": str}, "name", unique=True)


def test_bad_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 3: `name` must be a str, found 1"):
        LineIndex(write(tmp_path, [ROWS[0], {"name": 1}]), {"name": str}, "name")
    with pytest.raises(FileNotFoundError, match="file not found"):
        LineIndex(tmp_path / "absent.jsonl", {"name": str}, "name")
