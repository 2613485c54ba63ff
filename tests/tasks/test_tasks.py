"""Each task on the world of squares: what is judged, and what is left out."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback

from pcclip.tasks import (
    Analogies,
    Arithmetic,
    ComparativePrompting,
    Compositionality,
    LinearProbe,
    Simat,
    Task,
    evaluate,
)
from tests.helpers.world import TEMPLATES, TinyModel, by_name, ranking, shot


def write_jsonl(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture
def tasks(world: Path, tmp_path: Path) -> dict[str, Any]:
    """A task of each kind, on copies that a test may break."""
    classes = Path(shutil.copytree(world / "classes", tmp_path / "classes"))
    shutil.copytree(classes / "red", classes / "yellow")
    pairs = [("red", "green"), ("green", "red"), ("blue", "green"), ("green", "blue")]
    texts = [{"first": a, "second": b, "text": f"the {a} square is brighter than the {b}"} for a, b in pairs]
    edits = [
        {"image": f"{source}/{image.name}", "source": source, "target": target, "answer": target}
        for source, target in (("red", "blue"), ("blue", "green"))
        for image in sorted((classes / source).iterdir())
    ]
    choice = {"caption": "a red square", "negative_caption": "a blue square"}
    choices = {str(number): {"filename": f"{number}.png", **choice} for number in range(5)}
    (tmp_path / "swap.json").write_text(json.dumps(choices))
    grid = [("red", "1", "a"), ("green", "1", "b"), ("blue", "2", "a"), ("yellow", "2", "b")]
    rows = [dict(zip(("name", "row", "column"), row, strict=True)) for row in grid]
    of_classes: dict[str, Any] = {"name": "world", "images": str(classes)}
    return {
        "comparative": ComparativePrompting(
            **of_classes, templates=TEMPLATES, texts=write_jsonl(tmp_path / "texts.jsonl", texts), alphas=[0.8]
        ),
        "edits": Arithmetic(**of_classes, edits=write_jsonl(tmp_path / "edits.jsonl", edits), lambdas=[0, 1]),
        "probe": LinearProbe(
            **of_classes, test=str(world / "classes"), classes=["red", "green", "blue"], shots=[1], draws=2
        ),
        "captions": Compositionality(
            name="world", images=str(classes / "red"), captions=str(tmp_path / "swap.json")
        ),
        "analogy": Analogies(
            **of_classes, templates=TEMPLATES, columns=("row", "column"), table=write_jsonl(tmp_path / "grid.jsonl", rows)
        ),
    }  # fmt: skip


def measured(task: Task) -> dict[str, Any]:
    return by_name(evaluate(TinyModel(), [task], resamples=5))


def test_all_of_them(tasks: dict[str, Any]) -> None:
    found = by_name(evaluate(TinyModel(), list(tasks.values()), resamples=20))
    assert found["comparative_prompting/world/confused/gain_over_plain_0.8"].n == 15
    assert found["comparative_prompting/world/all/top1_reversed_0.8"].n == 20
    assert found["comparative_prompting/world/texts/cosine_text"].n == 4
    assert found["arithmetic/world/recall1_1"].n == 10
    assert found["analogies/world/image_by_text"].n == 4
    assert found["linear_probe/world/top1_full"].value == 1  # of images it has seen
    assert found["linear_probe/world/top1_shots_1"].n == 15
    assert found["compositionality/world/accuracy"].n == 5
    assert {result.factor for result in found.values()} == {None, 0, 0.8, 1}
    assert all(result.low <= result.value <= result.high for result in found.values())


def test_what_is_costly_and_intervals_are_for_the_final_measurement(world: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.yaml"
    texts.write_text(
        "brightness:\n"
        "  wordings: [{text: the first is brighter than the second, reverse: the first is darker than the second}]\n"
        "  prompts: [{more: a brighter square, less: a darker square}]\n"
    )
    found = measured(ranking(world, texts=str(texts), ceiling=True, images_per_draw=10, draws=3, examples=[2]))
    name = "attribute_ranking/world/brightness"
    assert found[f"{name}/ceiling_spearman"].value > 0.9  # brightness is all that the images differ in
    assert found[f"{name}/example_spearman_2"].value > 0.9
    assert found[f"{name}/blended_spearman_2"].n == 22
    assert found[f"{name}/sign_accuracy_paper"].n == 3 * 45
    assert found[f"{name}/prompt_spearman"].n == 22


def test_texts_of_listed_pairs_and_other_names(tasks: dict[str, Any], tmp_path: Path) -> None:
    names = enumerate(["red", "green", "blue", "yellow"])
    rows = [{"name": name, "id": f"n{place}", "use": name != "yellow"} for place, name in names]
    texts = [
        {"first": "n0", "second": "n1", "text": "a", "reverse_text": "b"},
        {"first": "n1", "second": "n2", "text": "c", "reverse_text": "d"},
        {"first": "n2", "second": "n3", "text": "e"},
    ]
    task = tasks["comparative"]
    task.texts, task.table = write_jsonl(tmp_path / "by_id.jsonl", texts), write_jsonl(tmp_path / "names.jsonl", rows)
    task.where, task.texts_column = {"use": "true"}, "id"
    with pytest.warns(UserWarning, match="1 of 5 texts.* 3$"):
        found = measured(task)
    assert found["comparative_prompting/world/texts/cosine_text"].n == 4
    assert found["comparative_prompting/world/all/top1_plain"].n == 15
    task.pairs = write_jsonl(tmp_path / "chosen.jsonl", [{"first": "n2", "second": "n1"}])
    found = measured(task)
    assert found["comparative_prompting/world/texts/cosine_text"].n == 2
    assert found["comparative_prompting/world/confused/top1_plain"].n == 10


def test_damaged_images_are_left_out(tasks: dict[str, Any], tmp_path: Path) -> None:
    damaged = tmp_path / "classes" / "red" / "0.png"
    damaged.write_bytes(damaged.read_bytes()[:30])
    with pytest.warns(UserWarning, match="world: .*1 of 10 edits"):
        assert measured(tasks["edits"])["arithmetic/world/recall1_1"].n == 9
    with pytest.warns(UserWarning, match=r"world: 1 of 5 images .*: 0\.png"):
        assert measured(tasks["captions"])["compositionality/world/accuracy"].n == 4
    for image in (tmp_path / "classes" / "red").iterdir():
        image.write_bytes(b"")
    with pytest.raises(ValueError, match=r"analogies world: classes \['red'\] have no \(intact\) image"):
        measured(tasks["analogy"])


def test_rows_of_classes_filters_and_gaps(world: Path, tmp_path: Path) -> None:
    rows = [
        {"name": "red", "brightness": 1, "known": True},
        {"name": "green", "brightness": 2.5, "known": True},
        {"name": "blue", "brightness": None, "known": False},
    ]
    table = write_jsonl(tmp_path / "classes.jsonl", rows)
    of_classes = {"images": str(world / "classes"), "table": table, "key": "name"}
    found = by_name(
        evaluate(
            TinyModel(),
            [
                ranking(world, "all"),
                ranking(world, "classes", level="class", **of_classes),
                ranking(world, "pictures", level="class_images", images_per_draw=4, **of_classes),
                ranking(world, "half", where={"split": "a"}),
                ranking(world, "few", pair_images=7),
                ranking(world, "gap", min_gap={"brightness": 0.3}),
                shot(world, "known", table=table, where={"known": "true"}),
            ],
            resamples=5,
        )
    )
    counts = {tag.removeprefix("attribute_ranking/"): result.n for tag, result in found.items()}
    assert counts["classes/brightness/spearman"] == 2
    assert counts["classes/brightness/forced_choice"] == 1
    assert counts["pictures/brightness/spearman"] == 10
    assert counts["pictures/brightness/forced_choice"] == 25  # pairs of a red and a green picture
    assert counts["half/brightness/spearman"] == 11
    assert counts["few/brightness/spearman"] == 22
    assert counts["few/brightness/forced_choice"] <= 21
    assert 0 < counts["gap/brightness/forced_choice"] < counts["all/brightness/forced_choice"] == 231
    assert counts["zero_shot/known/top1"] == 10


def test_folds_of_the_ceiling_keep_classes_whole(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def record(images: Any, values: Any, groups: Any, seed: int) -> Any:
        seen.append(groups.tolist())
        return images[:, 0]

    monkeypatch.setattr("pcclip.metrics.ceiling.FOLDS", 2)
    monkeypatch.setattr("pcclip.metrics.attribute_ranking.ridge_scores", record)
    table = tmp_path / "classes.csv"
    table.write_text("name,brightness\nred,1\ngreen,2\nblue,3\n")
    of_classes = {"images": str(world / "classes"), "table": str(table), "key": "name", "ceiling": True}
    for level in ("class_images", "class"):
        measured(ranking(world, level=level, **of_classes))
    measured(ranking(world, ceiling=True))
    by_class_images, by_class, by_image = seen
    assert [by_class_images.count(group) for group in sorted(set(by_class_images))] == [5, 5, 5]
    assert by_class_images == sorted(by_class_images)  # images come class by class
    assert len(set(by_class)) == 3
    assert len(set(by_image)) == 22


def test_a_dataset_may_be_described_in_a_file(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("classes.jsonl").write_text('{"wnid": "a", "name": "red"}\n{"wnid": "b", "name": "blue"}\n')
    Path("pictures").mkdir()
    for name, source in (("a_0", "red"), ("b_0", "blue"), ("b_1", "blue")):
        shutil.copy(world / "classes" / source / "0.png", f"pictures/{name}.png")
    file = Path("set.yaml")
    file.write_text(
        "class_path: pcclip.datasets.imagenet.NamedBySynset\ninit_args: {images: pictures, table: classes.jsonl}\n"
    )
    assert measured(shot(world, images="set.yaml"))["zero_shot/colours/top1"].n == 3
    file.write_text("class_path: pcclip.datasets.imagenet.ImageNet\ninit_args: {folder: pictures}\n")
    with pytest.raises(ValueError, match=r"set\.yaml.*folder"):
        measured(shot(world, images="set.yaml"))
    with pytest.raises(FileNotFoundError, match=r"other\.yaml"):
        measured(shot(world, images="other.yaml"))


YAML = """
callbacks:
- class_path: pcclip.callbacks.Evaluation
  init_args:
    every_n_epochs: 2
    num_workers: 2
    tasks:
    - class_path: pcclip.tasks.ComparativePrompting
      init_args: {name: zoo, images: a, templates: ["a {}"], texts: b.jsonl, table: c, texts_column: id, alphas: [0.5, 0.9]}
    - class_path: pcclip.tasks.Simat
      init_args: {name: simat, folder: simat_db, domain: dev, oracle: triplets, lambdas: [0, 1, 2]}
    - class_path: pcclip.tasks.Analogies
      init_args: {name: zoo, images: a, templates: ["a {}"], table: c.jsonl, columns: [shape, colour]}
    - class_path: pcclip.tasks.LinearProbe
      init_args:
        name: zoo
        images: {class_path: pcclip.datasets.animals.CUB, init_args: {root: birds}}
        test: b
        shots: [1, 4]
        full: false
    - class_path: pcclip.tasks.AttributeRanking
      init_args: {name: zoo, images: a, table: b.csv, texts: c.yaml, min_gap: {brightness: 0.1}, where: {split: a}}
- class_path: pcclip.callbacks.ResultsTable
  init_args: {file: results.json, alphas: [0.5, 0.7]}
"""


def test_configured_by_yaml() -> None:
    parser = ArgumentParser()
    parser.add_argument("--callbacks", type=list[Callback])
    evaluation, table = parser.instantiate_classes(parser.parse_string(YAML)).callbacks
    comparative, simat, analogies, probe, attributes = evaluation.evaluator.tasks
    assert evaluation.every_n_epochs == 2
    assert comparative.alphas == [0.5, 0.9]
    assert simat == Simat(name="simat", folder="simat_db", domain="dev", oracle="triplets", lambdas=[0, 1, 2])
    assert analogies.columns == ("shape", "colour")
    assert str(probe.images.root) == "birds"
    assert not probe.full
    assert attributes.min_gap == {"brightness": 0.1}
    assert table.alphas == [0.5, 0.7]
