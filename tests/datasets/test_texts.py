"""Attribute texts: their forms, and what is refused."""

from pathlib import Path

import pytest

from pcclip.datasets.texts import AttributeTexts, read_texts
from pcclip.metrics.protocol import Wording

FORMS = """
size:
  wordings: [{text: first is larger, reverse: " first is smaller "}]
  prompts: [{more: a large animal, less: a small animal}, {more: big, less: little}]
age: [{text: first is older, reverse: first is younger}]
templates:
  wordings:
  - {text: "{} is first, {other} second", reverse: "{other} is first, {} second"}
  - {text: "the first has {}", reverse: "the second has {}"}
  prompts: [{more: "with {}", less: "without {}"}]
phrases:
  tail: a tail
  bill: {phrase: "a bill that is {}", values: [long_and_thin]}
  wing: {phrase: "a {} wing", values: {broad-wing: broad}}
  animal:
    pairs: [[an animal, an object], [fur, wheels]]
    prompts: [{more: a pet, less: a tool}]
    stored: [{more: dog, less: car}]
"""


def test_forms(tmp_path: Path) -> None:
    file = tmp_path / "texts.yaml"
    file.write_text(FORMS)
    texts = read_texts(file)
    assert list(texts) == ["size", "age", "tail", "bill::long_and_thin", "wing::broad-wing", "animal"]
    assert texts["size"] == AttributeTexts(
        [Wording("first is larger", "first is smaller")],
        [Wording("a large animal", "a small animal"), Wording("big", "little")],
    )
    assert texts["age"] == AttributeTexts([Wording("first is older", "first is younger")], [])
    assert texts["tail"].wordings[1] == Wording("the first has a tail", "the second has a tail")
    assert texts["tail"].prompts == [Wording("with a tail", "without a tail")]
    assert texts["bill::long_and_thin"].prompts[0].text == "with a bill that is long and thin"
    assert texts["wing::broad-wing"].wordings[1].reverse == "the second has a broad wing"
    assert texts["animal"] == AttributeTexts(
        [
            Wording("An animal is first, an object second", "An object is first, an animal second"),
            Wording("The first has fur", "The second has fur"),
        ],
        [Wording("a pet", "a tool")],
        [Wording("dog", "car")],
    )


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "texts.yaml: "),
        ("size: [", "texts.yaml: "),
        ("size: []", "size.wordings"),
        ("size: [{text: a}]", "size.wordings.0.reverse"),
        ("size: [{text: a, reverse: ' '}]", "size.wordings.0.reverse"),
        ("size: [{text: a, reverse: a}]", 'size: "a"'),
        ("size: [{text: a, reverse: b}, {text: a, reverse: b}]", 'size: "a"'),
        ("size: {prompts: [{more: a, less: b}]}", "size.wordings"),
        ("size: {wordings: [{text: a, reverse: b}], prompt: []}", "size.prompt"),
        ("size: {wordings: [{text: a, reverse: b}], prompts: [{more: c, less: c}]}", 'size: "c"'),
        ("{templates: [{text: '{}', reverse: 'no {}'}], phrases: {}}", "`phrases`"),
        ("{templates: [{text: a, reverse: b}], phrases: {x: y}}", "a / b"),
        ("{templates: [{text: '{}', reverse: 'no {}'}], phrases: {x: y}, x: [{text: a, reverse: b}]}", r"\['x'\]"),
    ],
)
def test_bad_texts(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "texts.yaml").write_text(content)
    with pytest.raises(ValueError, match=f"texts.yaml: .*{named}" if named != "texts.yaml: " else named):
        read_texts(tmp_path / "texts.yaml")
