"""Questions and earlier answers are checked before anything is paid for, and answers of other settings do not mix."""

import json

import pytest

from data_prep.steps.describe import Describe
from tests.data_prep.llm.conftest import Describer


def test_an_output_of_other_settings_or_pairs_is_refused(describer: Describer) -> None:
    describer.write(5)
    describer.run()
    describer.fails("line 1", "(m, prompt difference@1)", temperature=0.1)
    pairs = describer.folder / "pairs.jsonl"
    pairs.write_text(pairs.read_text().replace("p4", "p5"))
    describer.fails("differences.jsonl", "`pair_id`")
    pairs.write_text(pairs.read_text().replace("p3", "p2"))
    describer.fails("pair_id 'p2'")
    assert len(describer.texts()) == 5
    assert describer.server.asked.total() == 5


def test_an_unknown_image_is_found_before_anything_is_paid_for(describer: Describer) -> None:
    describer.write(50)
    pairs, captions = describer.folder / "pairs.jsonl", describer.folder / "captions.jsonl"
    whole = pairs.read_text(), captions.read_text()
    pairs.write_text(whole[0].replace('"i50"', '"i77"'))
    describer.fails("pairs.jsonl, line 50", "`second`", "'i77'", "captions.jsonl", concurrency=1)
    pairs.write_text(whole[0])
    captions.write_text(whole[1].replace('["Picture <50> of a cat.", "Cat 50 again."]', "[]"))
    describer.fails("captions.jsonl", "'i50'", concurrency=1)
    assert describer.server.asked == {}
    captions.write_text(whole[1])
    describer.run()


def test_questions_are_checked_again_when_anything_changed(describer: Describer) -> None:
    describer.write(6)
    output, captions = describer.output, describer.folder / "captions.jsonl"
    for _ in range(2):
        describer.run(limit=2)
    rows = output.read_text().splitlines(keepends=True)
    other = json.dumps({**json.loads(rows[0]), "key": json.loads(rows[1])["key"]}) + "\n"
    output.unlink()
    output.write_text(other + "".join(rows[1:]))  # another file
    describer.fails("differences.jsonl", "'p0'")
    output.write_text("".join(rows))
    whole = captions.read_text()
    captions.write_text(whole.replace("<0>", "<zero>"))
    describer.fails("differences.jsonl", "pair_id 'p0'", "`output`")
    captions.write_text(whole)
    describer.fails("differences.jsonl", "pair_id", captions_per_image=1)
    describer.run()
    assert set(describer.server.asked.values()) == {1}


@pytest.mark.parametrize("backend", ["openai", "batch"])
def test_a_new_version_of_the_step_asks_nothing_again(
    describer: Describer, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    describer.backend = backend
    describer.write(6)
    describer.run(batch_poll=0.01)
    answers = describer.output.read_bytes()
    monkeypatch.setattr(Describe, "version", Describe.version + 1)
    describer.run(batch_poll=0.01)
    assert (describer.manifest() or {})["step_version"] == Describe.version
    assert describer.output.read_bytes() == answers
    assert set(describer.server.asked.values()) == {1}
