"""The journal keeps whole rows through any death, refuses foreign ones, and lets one process write."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.llm.journal import Journal, Keys, failures_path
from tests.data_prep.conftest import Read
from tests.data_prep.llm.conftest import Capture, Describer
from tests.data_prep.test_full_disk import full_disk


def row(name: str, settings: str = "s", **more: object) -> dict[str, object]:
    return {"pair_id": name, "key": f"{settings}-{name}", "prompt_tokens": 2, "completion_tokens": 1, **more}


def test_rows_are_there_at_once_and_known_again(tmp_path: Path, read: Read) -> None:
    output = tmp_path / "out/d.jsonl"
    with Journal(output, "pair_id", "s") as journal:
        journal.answered(row("a", text="käse"))
        assert read(output) == [row("a", text="käse")]
        journal.failure(row("b", reason="length"))
    with Journal(output, "pair_id", "s") as journal:
        assert ("a" in journal.done, "b" in journal.done, "b" in journal.failed) == (True, False, True)
        assert (len(journal.done), len(journal.failed), journal.done.prompt_tokens) == (1, 1, 2)


def test_a_failure_that_was_answered_later_goes_and_of_several_the_last_stays(tmp_path: Path, read: Read) -> None:
    output = tmp_path / "d.jsonl"
    with Journal(output, "pair_id", "s") as journal:
        for name in "abc":
            journal.failure(row(name, reason="length"))
    with Journal(output, "pair_id", "s") as journal:
        journal.answered(row("a"))
        journal.failure(row("b", reason="timeout"))
        kept = journal.failures.read_text()
    assert len(kept.splitlines()) == 4
    for killed in (False, True):
        if killed:  # nothing was tidied at the end
            failures_path(output).write_text(kept)
            with Journal(output, "pair_id", "s") as journal:
                assert len(journal.failed) == 2
        rows = [(found["pair_id"], found["reason"]) for found in read(failures_path(output))]
        assert rows == [("c", "length"), ("b", "timeout")]


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([row("b"), row("a", "t", model="llama", prompt="p@1")], r"line 2: .*\(llama, prompt p@1\).*`output`"),
        ([{"pair_id": "a", "text": "x"}], r"line 1: .*no model"),
        ([row("a"), row("b"), row("a")], "`pair_id`"),
    ],
)
def test_rows_of_other_settings_and_two_of_one_question_are_refused(
    tmp_path: Path, rows: list[dict[str, object]], named: str
) -> None:
    output = tmp_path / "d.jsonl"
    output.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=rf"d\.jsonl.*{named}"):
        Journal(output, "pair_id", "s")


def test_no_empty_file_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Journal(tmp_path / "d.jsonl", "pair_id", "s"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def replace_by_rename(path: Path, lines: list[str]) -> None:
    draft = path.with_name("draft")
    draft.write_text("\n".join(lines))  # without a last line break, as some editors leave it
    draft.replace(path)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (replace_by_rename, "02345"),
        (lambda path, lines: path.unlink(), "2345"),
        (lambda path, lines: path.write_text("".join(f"{line}\n" for line in lines)), "0245"),
    ],
)
def test_a_file_that_is_changed_while_open_is_named_and_answers_are_kept(
    tmp_path: Path, read: Read, change: Callable[[Path, list[str]], None], kept: str
) -> None:
    output = tmp_path / "d.jsonl"

    def run(names: str) -> None:
        with Journal(output, "pair_id", "s") as journal:
            for name in names:
                if name == "4":
                    lines = output.read_text().splitlines()
                    change(output, [lines[0], lines[2]])
                journal.answered(row(name))

    run("01")
    with pytest.raises(ValueError, match=r"d\.jsonl"):
        run("2345")
    assert sorted(found["pair_id"] for found in read(output)) == list(kept)
    run("")


@settings(max_examples=25)
@given(rows=st.dictionaries(st.text(), st.text(), max_size=30), others=st.sets(st.text()))
def test_keys_are_found_whatever_the_ids(rows: dict[str, str], others: set[str]) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "d.jsonl"
        file.write_text("".join(json.dumps(row(name, text=text)) + "\n" for name, text in rows.items()))
        keys = Keys(file, "pair_id", "s")
        assert len(keys) == len(rows)
        assert all(name in keys for name in rows)
        assert not any(name in keys for name in others - set(rows))


@given(
    rows=st.lists(st.text(), unique=True, max_size=5),
    torn=st.text() | st.builds(lambda name: json.dumps(row(name)), st.text()),
)
def test_a_torn_last_row_is_cut_off(rows: list[str], torn: str) -> None:
    with TemporaryDirectory() as folder:
        output = Path(folder) / "d.jsonl"
        output.write_text("".join(json.dumps(row(name)) + "\n" for name in rows))
        torn = torn.replace("\n", "").replace("\r", "").replace("\ud800", "")
        for file in (output, failures_path(output)):
            with file.open("ab") as stream:
                stream.write((100 * torn).encode(errors="replace"))
        with Journal(output, "pair_id", "s") as journal:
            assert all(name in journal.done for name in rows)
            assert len(journal.done) == len(rows)
            journal.answered(row("last of all"))
        found = [json.loads(line)["pair_id"] for line in output.read_bytes().splitlines()]
        assert found == [*rows, "last of all"]
        assert not failures_path(output).exists()


@pytest.mark.parametrize("lasting", [False, True])
def test_a_full_disk_leaves_whole_rows_and_loses_as_few_as_possible(
    tmp_path: Path, read: Read, monkeypatch: pytest.MonkeyPatch, capsys: Capture, lasting: bool
) -> None:
    output = tmp_path / "d.jsonl"
    full = False
    write = os.write

    def on_a_full_disk(descriptor: int, line: bytes) -> int:
        nonlocal full
        if b'"b"' in line:
            full = True
            return write(descriptor, line[:20])  # a short write
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, line)

    def run() -> None:
        nonlocal full
        with Journal(output, "pair_id", "s") as journal:
            journal.answered(row("a"))
            try:
                journal.answered(row("b", text="käse"))
            finally:
                assert output.read_text() == json.dumps(row("a")) + "\n"
                with pytest.raises(OSError, match=r"d\.jsonl"):
                    journal.answered(row("c"))  # under way when the disk became full
                if not lasting:
                    monkeypatch.setattr(os, "write", write)

    monkeypatch.setattr(os, "write", on_a_full_disk)
    with pytest.raises(OSError, match=r"d\.jsonl") as error:
        run()
    assert error.value.errno == errno.ENOSPC
    assert [found["pair_id"] for found in read(output)] == (["a"] if lasting else ["a", "b", "c"])
    assert ("2 rows could not be written" in capsys.readouterr().out) == lasting
    monkeypatch.setattr(os, "write", write)
    with Journal(output, "pair_id", "s") as journal:
        assert ("a" in journal.done, "b" in journal.done) == (True, not lasting)


def test_a_file_size_limit_stops_the_run_and_the_next_run_asks_the_rest(describer: Describer, capsys: Capture) -> None:
    describer.write(40)
    for _ in range(2):
        with full_disk(5000), pytest.raises(OSError, match=r"differences\.jsonl"):
            describer.run(concurrency=3)
        assert len(describer.rows()) >= 5
    assert "rows could not be written" in capsys.readouterr().out
    describer.run()
    assert len(describer.texts()) == 40
    # beyond one request each, only answers that could not be written are asked for again
    assert describer.server.asked.total() - 40 <= 2 * 3
