"""Prompts are checked when read, filled without surprises, and keyed by all that shapes an answer."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from data_prep.llm.options import ModelOptions
from data_prep.llm.prompt import load_prompt
from data_prep.llm.task import Question, Requests, UnaskableError, data_url

PROMPT = (
    "version: 2\nsystem: Compare.\nuser: |\n  {first} / {second}\nanswer: {text: one way, reverse_text: the other}\n"
)
KNOWN, ANSWER = ("first", "second"), ("text", "reverse_text")


@pytest.mark.parametrize("name", ["difference", "difference_images"])
def test_shipped_difference_prompts(name: str) -> None:
    prompt = load_prompt(name, KNOWN, ANSWER)
    assert list(prompt.answer) == list(ANSWER)
    assert prompt.placeholders == (set(KNOWN) if name == "difference" else set())


def test_shipped_rewrite_prompt() -> None:
    prompt = load_prompt("rewrite", ("caption",), ("text",))
    assert prompt.messages({"caption": "a cat"})[-1] == {"role": "user", "content": "a cat"}


def test_names_are_those_of_shipped_prompts_and_paths_are_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rewrite.yaml").write_text(PROMPT)
    assert load_prompt("rewrite", ("caption",), ("text",)).version == 1
    assert load_prompt("rewrite.yaml", KNOWN, ANSWER).version == 2
    with pytest.raises(FileNotFoundError, match=r"rewrites: .*class_comparison.*rewrite"):
        load_prompt("rewrites", KNOWN, ANSWER)
    with pytest.raises(FileNotFoundError, match=r"prompts/rewrite"):
        load_prompt("prompts/rewrite", KNOWN, ANSWER)


def test_filling_leaves_braces_of_captions_alone(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(PROMPT)
    prompt = load_prompt(tmp_path / "p.yaml", KNOWN, ANSWER)
    system, user = prompt.messages({"first": "a {second} {x}", "second": "b"})
    assert user["content"] == "a {second} {x} / b"
    assert system["content"].startswith("Compare.")
    assert '"reverse_text": the other' in system["content"]
    schema = (prompt.response_format("json_schema") or {})["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["additionalProperties"] is False
    assert schema["schema"]["required"] == ["text", "reverse_text"]
    assert prompt.response_format("json_object") == {"type": "json_object"}
    assert prompt.response_format("text") is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 2\n", "", r"p.yaml: a prompt has the keys version, system, user, answer; found system"),
        ("version: 2", "version: two", r"p.yaml: `version` must be a int, found 'two'"),
        ("version: 2", "version: 2\ncolour: red", r"found version, colour"),
        ("{second}", "{third}", r"p.yaml: `user` holds \{third\}, but what can be filled in is \{first\}, \{second\}"),
        (
            "reverse_text",
            "backwards",
            r"p.yaml: `answer` must describe text and reverse_text in words, found text, backw",
        ),
        ("version: 2", "version: [", r"p.yaml: not valid YAML"),
        ("version: 2", "version: !!python/object/apply:os.getcwd []", r"p.yaml: not valid YAML"),
    ],
)
def test_bad_prompts(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "p.yaml").write_text(PROMPT.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_prompt(tmp_path / "p.yaml", KNOWN, ANSWER)
    with pytest.raises(FileNotFoundError, match=r"q.yaml: prompt not found"):
        load_prompt(tmp_path / "q.yaml", KNOWN, ANSWER)


def key(
    folder: Path, prompt: str = PROMPT, first: str = "a", pair: str = "p", size: int | None = None, **options: object
) -> str:
    (folder / "p.yaml").write_text(prompt)
    loaded = load_prompt(folder / "p.yaml", KNOWN, ANSWER)
    model = ModelOptions(**{"model": "m", **options})  # type: ignore[arg-type]
    return Requests(model, loaded, size).key(Question(pair, {"pair_id": pair}, {"first": first, "second": "b"}))


def test_the_key_changes_with_all_that_shapes_the_answer_and_nothing_else(tmp_path: Path) -> None:
    same = key(tmp_path)
    assert key(tmp_path, concurrency=3, base_url="http://elsewhere", limit=4, timeout=9.0) == same
    others = [
        key(tmp_path, first="c"),
        key(tmp_path, pair="q"),
        key(tmp_path, PROMPT.replace("version: 2", "version: 3")),
        key(tmp_path, PROMPT.replace("Compare", "Contrast")),
        key(tmp_path, PROMPT.replace("one way", "this way")),
        key(tmp_path, size=256),
        key(tmp_path, model="n"),
        key(tmp_path, temperature=0.1),
        key(tmp_path, max_tokens=9),
        key(tmp_path, extra={"top_p": 0.5}),
    ]
    assert len({same, *others}) == 11
    # the part before the dash stands for the settings alone
    assert [other.partition("-")[0] == same.partition("-")[0] for other in others] == [True, True, *[False] * 8]


def test_pictures_are_shrunk_turned_upright_and_shown_in_order(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter
    Image.new("RGBA", (800, 400), (255, 0, 0, 255)).save(tmp_path / "a.png")
    Image.new("RGB", (60, 40), (0, 0, 255)).save(tmp_path / "b.jpg", exif=exif)
    (tmp_path / "p.yaml").write_text(PROMPT)
    requests = Requests(ModelOptions(model="m"), load_prompt(tmp_path / "p.yaml", KNOWN, ANSWER), 200)
    pictures = (tmp_path / "a.png", tmp_path / "b.jpg")
    content = requests.messages(Question("p", {}, {"first": "x", "second": "y"}, pictures))[-1]["content"]
    assert [part["type"] for part in content] == ["image_url", "image_url", "text"]
    shown = [part["image_url"]["url"].removeprefix("data:image/jpeg;base64,") for part in content[:2]]
    images = [Image.open(io.BytesIO(base64.b64decode(payload))) for payload in shown]
    assert [image.size for image in images] == [(200, 100), (40, 60)]
    red, blue = (image.resize((1, 1)).getpixel((0, 0)) for image in images)
    assert isinstance(red, tuple)
    assert isinstance(blue, tuple)
    assert (red[0] > 200, blue[2] > 200) == (True, True)
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    for name in ("c.jpg", "gone.jpg"):
        with pytest.raises(UnaskableError, match=name):
            data_url(tmp_path / name, 200)
