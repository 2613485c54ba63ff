"""The journal keeps whole rows through any death, refuses foreign ones, and lets one process write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from data_prep.llm.journal import Journal, Keys, failures_path
from tests.data_prep.conftest import Rows

Read = Callable[[Path], Rows]


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


@pytest.mark.parametrize("torn", ['{"pair_id": "c", "te', "x" * 100_000, '{"pair_id": "c", "key": "s-c"}'])
def test_a_torn_last_row_is_cut_off(tmp_path: Path, read: Read, torn: str) -> None:
    output = tmp_path / "d.jsonl"
    whole = "".join(json.dumps(row(name)) + "\n" for name in "ab")
    output.write_text(whole + torn)
    failures_path(output).write_text(torn)
    with Journal(output, "pair_id", "s") as journal:
        assert [name in journal.done for name in "abc"] == [True, True, False]
        journal.answered(row("c"))
    assert [found["pair_id"] for found in read(output)] == ["a", "b", "c"]
    assert not failures_path(output).exists()


def test_a_failure_that_was_answered_later_goes_and_of_several_the_last_stays(tmp_path: Path, read: Read) -> None:
    output = tmp_path / "d.jsonl"
    with Journal(output, "pair_id", "s") as journal:
        for name in "abc":
            journal.failure(row(name, reason="length"))
    with Journal(output, "pair_id", "s") as journal:
        journal.answered(row("a"))
        journal.failure(row("b", reason="timeout"))
        journal._failures, kept = kept_open(journal)  # as if the process were killed now: nothing is tidied at the end
    assert len(read(kept)) == 4
    with Journal(output, "pair_id", "s") as journal:
        assert len(journal.failed) == 2
    assert [(found["pair_id"], found["reason"]) for found in read(kept)] == [("c", "length"), ("b", "timeout")]


def kept_open(journal: Journal) -> tuple[int, Path]:
    journal.answered_now = journal.failed_now = 0
    return journal._failures, journal.failures


def test_other_settings_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "d.jsonl"
    with Journal(output, "pair_id", "s") as journal:
        journal.answered(row("a", model="llama", prompt="difference@1"))
    with pytest.raises(ValueError, match=r"d.jsonl, line 1: .*\(llama, prompt difference@1\).*choose another `output`"):
        Journal(output, "pair_id", "t")
    output.write_text('{"pair_id": "a", "text": "x"}\n')
    with pytest.raises(ValueError, match=r"d.jsonl, line 1: .*no model"):
        Journal(output, "pair_id", "s")


def test_two_rows_of_one_question_are_refused(tmp_path: Path) -> None:
    output = tmp_path / "d.jsonl"
    output.write_text(2 * (json.dumps(row("a")) + "\n"))
    with pytest.raises(ValueError, match="two rows have the same `pair_id`"):
        Journal(output, "pair_id", "s")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    output = tmp_path / "d.jsonl"
    with Journal(output, "pair_id", "s"), pytest.raises(ValueError, match="another process is writing it"):
        Journal(output, "pair_id", "s")
    with Journal(output, "pair_id", "s"):
        pass


def test_no_empty_file_is_left_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Journal(tmp_path / "d.jsonl", "pair_id", "s"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_keys_find_each_of_many(tmp_path: Path) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text("".join(json.dumps(row(str(number))) + "\n" for number in range(3000)))
    keys = Keys(file, "pair_id", "s")
    assert len(keys) == 3000
    assert all(str(number) in keys for number in range(3000))
    assert not any(str(number) in keys for number in range(3000, 6000))
