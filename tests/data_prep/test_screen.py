"""The step `screen`: every reason, counted; cut texts; order; restarts; determinism."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from data_prep.rules.judge import REASONS
from data_prep.steps import screen, tower
from tests.data_prep.conftest import Read, Rows, Write

TEXT = "The first image shows a dog on a beach, while the second image shows two cats on a sofa."
REVERSE = "The first image shows two cats on a sofa, while the second image shows a dog on a beach."
CAPTIONS = [
    {"id": "a", "file": "a.jpg", "captions": ["A happy brown dog runs on both sides of a beach."]},
    {"id": "b", "file": "b.jpg", "captions": ["Two cats sleep on a red sofa."]},
]
# A reply of each kind that a small model really gives, and what it is rejected for.
RUBBISH = [
    ("   ", "empty"),
    ("Note: I hope this helps!", "chat"),
    ("\u7b2c\u4e00\u5f20\u56fe\u7247\u663e\u793a\u4e00\u53ea\u72d7\u3002", "non_text"),
    ("The first\x00second third fourth fifth sixth", "non_text"),
    ("half a character \ud83d in the first image, none in the second", "non_text"),
    ('```json\n{"text": "The first image shows a dog"}\n```', "markup"),
    ("* The first image shows a dog.\n* The second image shows a cat.", "markup"),
    ("I'm sorry, but I cannot compare the first image with the second image.", "chat"),
    ("Based on the captions, the first image shows a dog and the second a cat.", "leakage"),
    ("The first image shows a dog, w\u00e4hrend das zweite Bild eine Katze auf einem Sofa zeigt.", "foreign"),
    ("The first image shows [describe it here], while the second shows [another].", "placeholder"),
    ("The first image shows a dog, the second two cats. Wait, I need to mention the beach.", "thinking"),
    ("It is not possible to tell how the first image differs from the second.", "unknown"),
    ("There is no difference between the first image and the second image.", "no_difference"),
    ("The first image shows a dog, the second two cats, and the third image a horse.", "third_image"),
    ("The first image shows the the the the the second image.", "repetition"),
    ("First dog, second cat.", "too_short"),
    ("A happy brown dog runs on both sides of a beach.", "caption_copy"),
    ("It is a sunny day in the park with many people around.", "mention"),
    ("The first image shows an empty street in the rain at night.", "mention"),
    ("The first image shows a dog on a beach, while the second image shows two cats on the", "truncated"),
    ("Unlike the second image, the first image shows a dog on a beach.", "one_sided"),
    (REVERSE, "direction"),
]


def row(number: int, text: str = TEXT, reverse: str = REVERSE) -> dict[str, Any]:
    ids = {"pair_id": f"p{number}", "group": "g", "first": "a", "second": "b"}
    return {**ids, "text": text, "reverse_text": reverse, "key": "k"}


def run(write: Write, tmp_path: Path, rows: Rows, **options: Any) -> Path:
    """Screen the rows and return the folder of the output."""
    tmp_path.mkdir(exist_ok=True)
    differences, captions = tmp_path / "differences.jsonl", tmp_path / "captions.jsonl"
    for file, content in ((differences, rows), (captions, CAPTIONS)):
        write(str(file), content)  # absolute, so it is not put under the test's own folder
    given = {"captions": str(captions), "tokenizer": "ViT-B-32", **options}
    screen.Screen(differences=str(differences), output=str(tmp_path / "out/screened.jsonl"), **given).run()
    return tmp_path / "out"


def counts(folder: Path) -> dict[str, int]:
    found: dict[str, int] = json.loads((folder / "screened.jsonl.manifest.json").read_text())["counts"]
    return found


@pytest.mark.parametrize("side", ["text", "reverse_text"])
def test_each_kind_of_rubbish_has_its_reason(write: Write, read: Read, tmp_path: Path, side: str) -> None:
    # In the reverse, the words of TEXT are those that stand unexchanged. Unlike it, these words have other stems.
    if side == "text":
        replies = list(RUBBISH)
        unexchanged = "The first image shows many cats on furniture, while the second image shows a dog at a beach."
    else:
        replies = [(TEXT if reason == "direction" else reply, reason) for reply, reason in RUBBISH]
        unexchanged = "The first image shows a dog running at a beach, while many cats are on furniture in the second."
    replies.append((unexchanged, "exchanged"))
    rows = [{**row(number), side: reply} for number, (reply, _) in enumerate(replies)]
    out = run(write, tmp_path, [*rows, row(99)])
    rejected = read(out / "screened.rejected.jsonl")
    assert [found["reason"] for found in rejected] == [reason for _, reason in replies]
    assert [{key: found[key] for key in rows[0]} for found in rejected] == rows  # as they were, nothing lost
    assert all(found["detail"] for found in rejected)
    assert [found["pair_id"] for found in read(out / "screened.jsonl")] == ["p99"]
    expected = Counter(f"rejected.{reason}" for _, reason in replies)
    assert {key: value for key, value in counts(out).items() if key.startswith("rejected.")} == expected
    elsewhere = {"other_images", "misfit", "too_long", "repeated_pair", "near_duplicate"}
    assert set(REASONS) - {reason for _, reason in replies} == elsewhere


def test_cut_texts_are_written_and_counted(write: Write, read: Read, tmp_path: Path) -> None:
    chatty = f'Sure! Here it is:\n"{TEXT}"\nI hope this helps! Note: done.'
    out = run(write, tmp_path, [row(0, chatty, f"  {REVERSE}\n\nQ: why?"), row(1)])
    assert read(out / "screened.jsonl") == [row(0), row(1)]
    found = counts(out)
    assert (found["passed"], found["cut.talk"], found["cut.turn"], found["cut.quotes"]) == (2, 1, 1, 1)
    report = (out / "screened.report.md").read_text()
    assert "| turn | 1 |" in report
    assert "## cut agreement" in report


@pytest.mark.parametrize("skip_rules", [[], ["too_long"]])
def test_long_texts(write: Write, read: Read, tmp_path: Path, skip_rules: list[str]) -> None:
    tail = (
        "Waves roll in behind it. Lamps glow next to them, warm and yellow. Sand lies all around under a wide blue sky."
    )
    whole, one = f"{TEXT} {tail}", f"{TEXT} {tail}".replace(".", ",")[:-1] + "."
    out = run(write, tmp_path, [row(0, whole), row(1), row(2, one)], skip_rules=skip_rules, max_tokens=30)
    assert counts(out)["long_texts"] == 2
    kept = [found["text"] for found in read(out / "screened.jsonl")]
    assert kept == ([whole, TEXT, one] if skip_rules else [f"{TEXT} {tail.split('.')[0]}.", TEXT])
    assert [found["reason"] for found in read(out / "screened.rejected.jsonl")] == ([] if skip_rules else ["too_long"])


def test_a_mention_that_was_cut_off_does_not_count(write: Write, read: Read, tmp_path: Path) -> None:
    late = (
        "The first image shows a dog on a beach with many people around it. The second image shows a cat on a red sofa."
    )
    out = run(write, tmp_path, [row(0, late)], max_tokens=24)
    assert read(out / "screened.rejected.jsonl")[0]["detail"] == "text: only the first image"


def test_pairs_and_texts_that_come_too_often(write: Write, read: Read, tmp_path: Path) -> None:
    rows = [row(number, TEXT.replace("image", "picture") if number % 2 else TEXT.upper()) for number in range(5)]
    rows = [{**one, "reverse_text": REVERSE.replace("sofa", f"sofa in room {one['pair_id']}")} for one in rows]
    # A row that is rejected for something else does not use up the allowance.
    out = run(write, tmp_path, [row(0, TEXT, "empty"), rows[0], rows[0], *rows[1:]], max_repeats=3)
    assert [found["pair_id"] for found in read(out / "screened.jsonl")] == ["p0", "p1", "p2"]
    rejected = [(found["pair_id"], found["reason"]) for found in read(out / "screened.rejected.jsonl")]
    assert rejected == [
        ("p0", "too_short"),
        ("p0", "repeated_pair"),
        ("p3", "near_duplicate"),
        ("p4", "near_duplicate"),
    ]
    assert len(read(run(write, tmp_path, rows, max_repeats=3, skip_rules=["near_duplicate"]) / "screened.jsonl")) == 5


def many_rows(count: int) -> Rows:
    """Rows of several groups: right ones, long ones, some of each kind of rubbish, and repeated texts."""
    rows = []
    for number in range(count):
        place = f"a sofa in room {number % 7 if number % 5 else number}"
        one = row(number, TEXT.replace("a sofa", place), REVERSE.replace("a sofa", place))
        if number % 9 == 0:
            one["text"] = RUBBISH[number // 9 % len(RUBBISH)][0]
        rows.append({**one, "group": f"g{number // 10}"})
    return rows


def test_the_output_does_not_depend_on_the_number_of_processes(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "CHUNK", 2000)
    names = ("screened.jsonl", "screened.rejected.jsonl", "screened.report.md", "screened.jsonl.manifest.json")
    found = []
    for workers in (1, 3):
        out = run(write, tmp_path, many_rows(300), workers=workers, max_repeats=20)
        found.append([(out / name).read_bytes() for name in names])
        (out / "screened.jsonl").unlink()
    assert found[0] == found[1]
    ids = [json.loads(line)["pair_id"] for line in found[0][0].splitlines()]
    assert ids == sorted(ids, key=lambda name: int(name[1:]))
    assert b"near_duplicate" in found[0][1]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_image_without_captions_row(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(screen, "CHUNK", 2000)
    rows = many_rows(100)
    rows[77]["first"] = "zebra"
    with pytest.raises(ValueError, match=r"differences.jsonl, line 78: `first` is 'zebra'.* captions"):
        run(write, tmp_path, rows, workers=workers)
    assert list((tmp_path / "out").iterdir()) == []


def test_parts_together_are_the_whole(write: Write, read: Read, tmp_path: Path) -> None:
    rows = many_rows(120)
    whole = run(write, tmp_path / "whole", rows, max_repeats=10)
    options = {"captions": str(tmp_path / "whole/captions.jsonl"), "max_repeats": 10}
    parts = []
    for number in (1, 2, 3):
        output = tmp_path / f"screened-{number}.jsonl"
        source = str(tmp_path / "whole/differences.jsonl")
        screen.Screen(differences=source, output=str(output), part=f"{number}/3", **options).run()
        assert output.with_suffix(".report.md").is_file()
        parts.append(read(output) + read(output.with_suffix(".rejected.jsonl")))
    assert sorted(found["pair_id"] for part in parts for found in part) == sorted(found["pair_id"] for found in rows)
    assert sum(len({found["group"] for found in part}) for part in parts) == 12  # none is in two parts
    joined = tmp_path / "joined.jsonl"
    screen.Screen(differences=str(tmp_path / "screened-*.jsonl"), output=str(joined), **options).run()
    assert len(read(joined)) == len(read(whole / "screened.jsonl"))
    assert {found["reason"] for found in read(joined.with_suffix(".rejected.jsonl"))} == {"near_duplicate"}


@pytest.mark.parametrize("name", ["screened.rejected.jsonl", "screened.report.md"])
def test_rejected_rows_and_report_belong_to_the_output(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    rows = [row(number, reply) for number, (reply, _) in enumerate(RUBBISH * 8)]
    out = run(write, tmp_path, rows)
    run(write, tmp_path, rows)
    assert "up to date" in capsys.readouterr().out
    assert (out / "screened.report.md").read_text().count("\n- `p") == 5 * len({reason for _, reason in RUBBISH})
    whole = (out / name).read_bytes()
    (out / name).write_bytes(whole[:-5])
    with pytest.raises(ValueError, match=r"screened\..*re(jected|port)"):
        run(write, tmp_path, rows)
    (out / name).unlink()
    run(write, tmp_path, rows)
    assert (out / name).read_bytes() == whole


def test_what_passed_passes_again_unchanged(write: Write, read: Read, tmp_path: Path) -> None:
    long = f"{TEXT} Waves roll in behind the dog. Sand lies all around under a wide blue sky, and nobody else is there."
    first = run(
        write, tmp_path / "once", [*many_rows(50), row(50, f'Sure! "{TEXT}" Note: x'), row(51, long)], max_tokens=40
    )
    again = run(write, tmp_path / "twice", read(first / "screened.jsonl"), max_tokens=40)
    assert (again / "screened.jsonl").read_bytes() == (first / "screened.jsonl").read_bytes()


def test_rules_can_be_switched_off(write: Write, read: Read, tmp_path: Path) -> None:
    rows = [{**row(number), "text": reply} for number, (reply, _) in enumerate(RUBBISH)]
    out = run(write, tmp_path, rows, skip_rules=[reason for reason in REASONS if reason != "empty"])
    assert [found["reason"] for found in read(out / "screened.rejected.jsonl")] == [
        "empty",
        "chat",
    ]  # nothing is left of these
    assert (out / "screened.jsonl").read_text().count("\\ud83d") == 1


def test_the_world_s_right_texts_pass(world: Path, tmp_path: Path) -> None:
    screen.Screen(
        differences=str(world / "differences.jsonl"),
        output=str(tmp_path / "screened.jsonl"),
        captions=str(world / "shapes/train/captions.jsonl"),
        mentions="one",  # some of its sentences speak of one picture only
    ).run()
    found = counts(tmp_path)
    assert found["passed"] == found["rows"] > 100
    rows = [json.loads(line) for line in (tmp_path / "screened.jsonl").read_text().splitlines()]
    assert rows == [json.loads(line) for line in (world / "differences.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fit_model": "ViT-B-32", "captions": None}, "screen.fit_model .*screen.captions"),
        ({"part": "3/2"}, "screen.part.*'3/2'"),
        ({"skip_rules": ["length"]}, "screen.skip_rules.*'length'"),
        ({"tokenizer": "ViT-L-15"}, "'ViT-L-15'"),
    ],
)
def test_bad_options(write: Write, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(write, tmp_path, [row(0)], **options)
    assert not (tmp_path / "out/screened.jsonl").exists()


COLOURS = ("red", "green", "blue")


class ColourModel:
    """Embeds pictures by their mean colour, and texts by the colour of the first image minus that of the second."""

    device = torch.device("cpu")
    embed_dim = 3

    def require_image_tower(self, pictures: str) -> None:
        pass

    def image_transform(self, image: Image.Image) -> Tensor:
        return torch.tensor(list(image.convert("RGB").getdata()), dtype=torch.float32).T.reshape(3, 8, 8)

    def encode_images(self, images: Tensor) -> Tensor:
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=-1)

    def encode_texts(self, texts: list[str]) -> Tensor:
        signs = [
            [(text.find(name) < 45) - (text.find(name) >= 45) if name in text else 0 for name in COLOURS]
            for text in texts
        ]
        return torch.nn.functional.normalize(torch.tensor(signs, dtype=torch.float32), dim=-1)

    def difference(self, first: Tensor, second: Tensor) -> Tensor:
        return torch.nn.functional.normalize(first - second, dim=-1)


def test_texts_must_fit_better_than_reversed_ones(
    write: Write, read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tower, "load_tower", lambda *arguments: asked.append(arguments) or ColourModel())
    monkeypatch.setattr(tower, "ROWS", 2)
    for name in COLOURS:
        Image.new("RGB", (8, 8), name).save(tmp_path / f"{name}.png")
    write("captions.jsonl", [{"id": name, "file": f"{name}.png", "captions": ["a surface"]} for name in COLOURS])
    rows = []
    for number, (first, second) in enumerate([("red", "green"), ("green", "blue"), ("blue", "red"), ("red", "blue")]):
        shown = (second, first) if number in (1, 3) else (first, second)
        frame = "The first image shows a {} wall, while the second image shows a {} wall."
        rows.append({**row(number, frame.format(*shown), frame.format(*shown[::-1])), "first": first, "second": second})
    write("differences.jsonl", [*rows, {**rows[0], "pair_id": "p4", "text": "Sorry."}])  # alone in the last batch
    paths = {name: str(tmp_path / f"{name}.jsonl") for name in ("differences", "captions", "output")}
    screen.Screen(**paths, fit_model="local-dir:model").run()
    assert asked == [("local-dir:model", None, "screen.fit_model")]
    rejected = read(tmp_path / "output.rejected.jsonl")
    assert [(found["pair_id"], found["reason"]) for found in rejected] == [
        ("p1", "misfit"),
        ("p3", "misfit"),
        ("p4", "too_short"),
    ]
    assert read(tmp_path / "output.jsonl") == [rows[0], rows[2]]


def test_right_texts_of_a_labelled_set_pass_and_wrong_ones_do_not(write: Write, read: Read, tmp_path: Path) -> None:
    """The rules were written while looking at the rows `develop`. `held_out` and `blind` are by the same author.

    `blind` was written after the rules, and since looked at. Every row has the captions of its two images.
    """
    labelled = read(Path(__file__).with_name("screening_set.jsonl"))
    differences, captions = [], []
    for number, one in enumerate(labelled):
        images = {"first": f"{number}a", "second": f"{number}b"}
        captions += [{"id": name, "file": name, "captions": one[side]} for side, name in images.items()]
        differences.append({**row(number, one["text"], one["reverse_text"]), **images})
    paths = {"captions": str(write("c.jsonl", captions)), "differences": str(write("d.jsonl", differences))}
    screen.Screen(**paths, output=str(tmp_path / "out.jsonl")).run()
    passed = {int(found["pair_id"][1:]) for found in read(tmp_path / "out.jsonl")}
    for split in ("develop", "held_out", "blind", "all"):
        rows = [
            (one["label"], number in passed) for number, one in enumerate(labelled) if split in ("all", one["split"])
        ]
        right, wrong = ([passes for label, passes in rows if label == kind] for kind in ("good", "bad"))
        print(f"{split}: right texts pass {sum(right)}/{len(right)}, wrong ones {sum(wrong)}/{len(wrong)}")
        assert sum(right) >= 0.97 * len(right) > 0
        assert sum(wrong) <= 0.15 * len(wrong)
    assert len({one["kind"] for one in labelled if one["label"] == "bad"}) >= 15
