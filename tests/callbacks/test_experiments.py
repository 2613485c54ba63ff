"""The callbacks of comparative prompting, arithmetic, analogies, linear probes and compositionality in runs of the Trainer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from pcclip.callbacks import (
    Analogies,
    AnalogySet,
    Arithmetic,
    AttributeRanking,
    AttributeSet,
    ComparativePrompting,
    ComparativeSet,
    Compositionality,
    CompositionalitySet,
    ConfusedPairs,
    ConfusedSet,
    EditSet,
    LinearProbe,
    LinearProbeSet,
    ResultsTable,
    SimatSet,
)
from pcclip.callbacks.evaluation import EvaluationCallback
from pcclip.metrics.protocol import Result

TEMPLATES = ["a photo of a {} square"]
Make = Callable[..., Any]


def write_jsonl(file: Path, rows: list[dict[str, Any]]) -> str:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


@pytest.fixture
def sets(world: Path, tmp_path: Path) -> dict[str, Any]:
    """Settings of one set of each kind, on copies that a test may break."""
    classes = Path(shutil.copytree(world / "classes", tmp_path / "classes"))
    pairs = [("red", "green"), ("green", "red"), ("blue", "green"), ("green", "blue")]
    texts = [{"first": a, "second": b, "text": f"the {a} square is brighter than the {b}"} for a, b in pairs]
    edits = [
        {"image": f"{source}/{image.name}", "source": source, "target": target, "answer": target}
        for source, target in (("red", "blue"), ("blue", "green"))
        for image in sorted((classes / source).iterdir())
    ]
    names = sorted((classes / "red").iterdir())
    choices = {
        str(number): {"filename": image.name, "caption": "a red square", "negative_caption": "a blue square"}
        for number, image in enumerate(names)
    }
    (tmp_path / "swap.json").write_text(json.dumps(choices))
    grid = [("red", "1", "a"), ("green", "1", "b"), ("blue", "2", "a")]
    (classes / "yellow").mkdir()
    for image in names:
        shutil.copy(image, classes / "yellow" / image.name)
    grid.append(("yellow", "2", "b"))
    columns = ("name", "row", "column")
    return {
        "comparative": {
            "images": str(classes), "templates": TEMPLATES, "texts": write_jsonl(tmp_path / "texts.jsonl", texts),
        },
        "edits": {"images": str(classes), "edits": write_jsonl(tmp_path / "edits.jsonl", edits)},
        "probe": {"train": str(classes), "test": str(world / "classes"), "classes": ["red", "green", "blue"]},
        "captions": {"images": str(classes / "red"), "captions": str(tmp_path / "swap.json")},
        "analogy": {
            "images": str(classes), "templates": TEMPLATES, "columns": ("row", "column"),
            "table": write_jsonl(tmp_path / "grid.jsonl", [dict(zip(columns, row, strict=True)) for row in grid]),
        },
        "confused": {
            "images": str(classes), "templates": TEMPLATES, "file": str(tmp_path / "pairs.jsonl"), "count": 2,
        },
    }  # fmt: skip


def measured(callback: EvaluationCallback, make_module: Make, make_trainer: Callable[..., Trainer]) -> dict[Any, Any]:
    make_trainer([callback]).test(make_module(), verbose=False)
    return {(row.task, row.subset, row.metric): row for row in callback.rows}


def points(folder: Path, name: str) -> int:
    """Points of a scalar in TensorBoard."""
    events = EventAccumulator(str(folder / "logs" / "run"))
    events.Reload()
    return len(events.Scalars(name))


def test_all_of_them_in_a_fit(
    sets: dict[str, Any], tmp_path: Path, make_module: Make, make_trainer: Callable[..., Trainer]
) -> None:
    callbacks = [
        ComparativePrompting({"world": ComparativeSet(**sets["comparative"], alphas=[0.8])}, resamples=20),
        Arithmetic({"world": EditSet(**sets["edits"])}, lambdas=[0, 1], resamples=20),
        Analogies({"world": AnalogySet(**sets["analogy"])}, resamples=20),
        LinearProbe({"world": LinearProbeSet(**sets["probe"], shots=[1], draws=2)}, resamples=20),
        Compositionality({"world": CompositionalitySet(**sets["captions"])}, resamples=20),
    ]
    table = ResultsTable(str(tmp_path / "results.json"), alphas=[0.5])
    trainer = make_trainer([*callbacks, table])
    trainer.fit(make_module())
    rows = json.loads((tmp_path / "results.json").read_text())
    assert {row["model"] for row in rows} == {"base", "finetuned", "ensembled 0.5"}
    found = {(row["task"], row["subset"], row["metric"]): row for row in rows if row["model"] == "finetuned"}
    assert found["comparative_prompting", "world/confused", "gain_over_plain_0.8"]["n"] == 15
    assert found["comparative_prompting", "world/all", "top1_reversed_0.8"]["n"] == 20
    assert found["text_geometry", "world", "cosine_text"]["n"] == 4
    assert found["arithmetic", "world", "recall1_1"]["n"] == 10
    assert found["analogies", "world", "image_by_text"]["n"] == 4
    assert found["linear_probe", "world", "top1_full"]["value"] == 1  # of images it has seen
    assert found["linear_probe", "world", "top1_1shot"]["n"] == 15
    assert found["compositionality", "world", "accuracy"]["n"] == 5
    assert points(tmp_path, "comparative_prompting/world/confused/top1_texts_0.8") == 3
    assert points(tmp_path, "linear_probe/world/top1_full") == 1  # not after each epoch


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the probes that were fitted."""
    import pcclip.callbacks.linear_probe as module

    done: list[str] = []
    original = module.linear_probe

    def counted(*arguments: Any, **settings: Any) -> Any:
        done.append(settings["subset"])
        return original(*arguments, **settings)

    monkeypatch.setattr(module, "linear_probe", counted)
    return done


def test_probe_is_fitted_once_while_the_image_tower_is_frozen(
    sets: dict[str, Any], fits: list[str], make_module: Make, make_trainer: Callable[..., Trainer]
) -> None:
    probe_sets = {"world": LinearProbeSet(**sets["probe"])}
    for frozen, times in ((True, 1), (False, 2)):
        fits.clear()
        probe = LinearProbe(probe_sets, resamples=5)
        table = ResultsTable(str(Path(sets["confused"]["file"]).with_name("table.json")))
        make_trainer([probe, table]).fit(make_module(frozen=frozen))
        assert fits == ["world"] * times


def test_probe_of_a_second_model_with_the_same_images_is_not_fitted_again(
    sets: dict[str, Any], fits: list[str], tmp_path: Path, make_module: Make, make_trainer: Callable[..., Trainer]
) -> None:
    cache = tmp_path / "cache"

    def rows(draws: int = 2, shift: float = 0, **settings: Any) -> list[Result]:
        probe = LinearProbe(
            {"world": LinearProbeSet(**sets["probe"], shots=[1], draws=draws)}, cache_dir=str(cache), **settings
        )
        module = make_module()
        with torch.no_grad():
            module.model.words.weight += 0.5  # another text tower
            module.model.visual.weight += shift
        make_trainer([probe]).test(module, verbose=False)
        return probe.rows

    first = rows(resamples=5)
    assert rows(resamples=5) == first
    assert fits == ["world"]
    for changed in ({"resamples": 6}, {"resamples": 5, "draws": 3}, {"resamples": 5, "shift": 0.5}):
        rows(**changed)
    assert fits == ["world"] * 4
    for file in cache.glob("linear_probe-*.json"):
        file.write_text("[")  # a broken file is made again
    assert rows(resamples=5) == first
    assert fits == ["world"] * 5


@pytest.mark.parametrize("changed", ["VERSION", "sklearn.__version__"])
def test_probe_of_another_version_is_fitted_again(
    sets: dict[str, Any], fits: list[str], tmp_path: Path, make_module: Make, make_trainer: Callable[..., Trainer],
    monkeypatch: pytest.MonkeyPatch, changed: str,
) -> None:  # fmt: skip
    probe = LinearProbe({"world": LinearProbeSet(**sets["probe"])}, resamples=5, cache_dir=str(tmp_path / "cache"))
    for times in (1, 2):
        make_trainer([probe]).test(make_module(), verbose=False)
        assert fits == ["world"] * times
        monkeypatch.setattr(f"pcclip.callbacks.linear_probe.{changed}", "another")


def test_ceiling_is_not_for_each_epoch(
    world: Path, tmp_path: Path, make_module: Make, make_trainer: Callable[..., Trainer]
) -> None:
    texts = tmp_path / "texts.yaml"
    texts.write_text(
        "brightness:\n"
        "  wordings: [{text: the first is brighter than the second, reverse: the first is darker than the second}]\n"
        "  prompts: [{more: a brighter square, less: a darker square}]\n"
    )
    settings = AttributeSet(
        images=str(world / "images"),
        table=str(world / "table.csv"),
        texts=str(texts),
        ceiling=True,
        images_per_draw=10,
        draws=3,
    )
    ranking = AttributeRanking({"world": settings}, resamples=20)
    trainer = make_trainer([ranking, ResultsTable(str(tmp_path / "results.json"))])
    trainer.fit(make_module())
    name = "attribute_ranking/world/brightness"
    for metric in ("prompt_spearman", "prompt_forced_choice", "sign_accuracy_paper"):
        assert points(tmp_path, f"{name}/{metric}") == 3
    for metric in ("ceiling_spearman", "share_of_ceiling"):
        assert points(tmp_path, f"{name}/{metric}") == 1
    rows = {(row["model"], row["metric"]): row for row in json.loads((tmp_path / "results.json").read_text())}
    for model in ("base", "finetuned"):
        assert rows[model, "ceiling_spearman"]["value"] > 0.9  # brightness is all that the images differ in
    assert rows["finetuned", "sign_accuracy_paper"]["n"] == 3 * 45


def test_ceiling_needs_enough_values(
    world: Path, tmp_path: Path, make_module: Make, make_trainer: Callable[..., Trainer]
) -> None:
    table = tmp_path / "table.csv"
    table.write_text("\n".join((world / "table.csv").read_text().splitlines()[:10]) + "\n")
    settings = AttributeSet(
        images=str(world / "images"), table=str(table), texts=str(world / "texts.yaml"), ceiling=True
    )
    module = make_module()
    with pytest.raises(ValueError, match=r"table.csv: .*brightness.* 8 rows"):
        make_trainer([AttributeRanking({"world": settings})]).fit(module)
    assert module.model.encoded == 0


def test_pairs_are_chosen_once_and_by_the_base(
    sets: dict[str, Any], make_module: Make, make_trainer: Callable[..., Trainer]
) -> None:
    file = Path(sets["confused"]["file"])
    names = file.with_name("names.txt")
    for by in ("closest", "disagreement"):
        pairs = ConfusedPairs({"world": ConfusedSet(**sets["confused"], by=by, names=str(names))}, resamples=5)
        make_trainer([pairs], epochs=1).fit(make_module())
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        assert len(rows) == 2
        assert {name for row in rows for name in row.values()} <= {"red", "green", "blue", "yellow"}
        assert names.read_text() == "blue\ngreen\nred\nyellow\n"
        file.unlink()
    names.unlink()
    file.write_text('{"first": "red", "second": "blue"}\n')
    assert measured(pairs, make_module, make_trainer) == {}
    assert file.read_text() == '{"first": "red", "second": "blue"}\n'
    assert names.is_file()


@pytest.mark.parametrize("stage", ["fit", "test"])
def test_fast_dev_run_writes_nothing(
    sets: dict[str, Any], world: Path, tmp_path: Path, make_module: Make, stage: str
) -> None:
    kept: dict[str, Any] = {"resamples": 5, "cache_dir": str(tmp_path / "cache")}
    ranking = AttributeSet(str(world / "images"), str(world / "texts.yaml"), str(world / "table.csv"))
    callbacks = [
        ComparativePrompting({"world": ComparativeSet(**sets["comparative"])}, **kept),
        LinearProbe({"world": LinearProbeSet(**sets["probe"])}, **kept),
        AttributeRanking({"world": ranking}, **kept),
        ConfusedPairs({"world": ConfusedSet(**sets["confused"], names=str(tmp_path / "names.txt"))}, **kept),
        ResultsTable(str(tmp_path / "results.json"), alphas=[0.5]),
    ]
    before = sorted(tmp_path.rglob("*"))
    trainer = Trainer(
        accelerator="cpu", fast_dev_run=True, callbacks=callbacks, default_root_dir=tmp_path, enable_progress_bar=False
    )
    getattr(trainer, stage)(make_module())
    assert sorted(tmp_path.rglob("*")) == before


def test_texts_of_listed_pairs_and_other_names(
    sets: dict[str, Any], tmp_path: Path, make_module: Make, make_trainer: Callable[..., Trainer]
) -> None:
    names = enumerate(["red", "green", "blue", "yellow"])
    rows = [{"name": name, "id": f"n{place}", "use": name != "yellow"} for place, name in names]
    table = write_jsonl(tmp_path / "names.jsonl", rows)
    texts = [
        {"first": "n0", "second": "n1", "text": "a", "reverse_text": "b"},
        {"first": "n1", "second": "n2", "text": "c", "reverse_text": "d"},
        {"first": "n2", "second": "n3", "text": "e"},
    ]
    settings = {
        **sets["comparative"], "texts": write_jsonl(tmp_path / "by_id.jsonl", texts), "table": table,
        "where": {"use": "true"}, "texts_column": "id",
    }  # fmt: skip
    with pytest.warns(UserWarning, match="1 of 5 texts are about classes that are not among its 3"):
        found = measured(ComparativePrompting({"world": ComparativeSet(**settings)}), make_module, make_trainer)
    assert found["text_geometry", "world", "cosine_text"].n == 4
    assert found["comparative_prompting", "world/all", "top1_plain"].n == 15
    settings["pairs"] = write_jsonl(tmp_path / "chosen.jsonl", [{"first": "n2", "second": "n1"}])
    found = measured(ComparativePrompting({"world": ComparativeSet(**settings)}), make_module, make_trainer)
    assert found["text_geometry", "world", "cosine_text"].n == 2
    assert found["comparative_prompting", "world/confused", "top1_plain"].n == 10


def test_damaged_images_are_left_out(
    sets: dict[str, Any], tmp_path: Path, make_module: Make, make_trainer: Callable[..., Trainer]
) -> None:
    damaged = next(iter(sorted((tmp_path / "classes" / "red").iterdir())))
    damaged.write_bytes(damaged.read_bytes()[:30])
    with pytest.warns(UserWarning, match="world: 1 of 10 edits have a damaged image or no right one"):
        rows = measured(Arithmetic({"world": EditSet(**sets["edits"])}), make_module, make_trainer)
    assert rows["arithmetic", "world", "recall1_1"].n == 9
    rows = measured(Compositionality({"world": CompositionalitySet(**sets["captions"])}), make_module, make_trainer)
    assert rows["compositionality", "world", "accuracy"].n == 4
    for image in (tmp_path / "classes" / "red").iterdir():
        image.write_bytes(b"")
    with pytest.raises(ValueError, match=r"analogies world: classes \['red'\] have no \(intact\) image"):
        measured(Analogies({"world": AnalogySet(**sets["analogy"])}), make_module, make_trainer)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("comparative", {"texts": "nowhere.jsonl"}, "comparative texts not found"),
        ("comparative", {"templates": []}, "no templates"),
        ("comparative", {"classes": ["yellow", "blue"]}, "no text about two of the 2 classes"),
        ("comparative", {"texts_column": "id"}, "`texts_column` is a column of a `table`"),
        ("comparative", {"texts": [{"first": "red", "second": "puce", "text": "x"}]}, r"unknown classes \['puce'\]"),
        ("comparative", {"pairs": [{"first": "red", "second": "blue"}]}, r"no text for 1 pairs of .*: \['blue', 'red'\]"),
        ("comparative", {"pairs": [{"first": "red", "second": "puce"}]}, r"unknown classes \['puce'\]"),
        ("edits", {"edits": [{"image": "red/x.png", "source": "a", "target": "b", "answer": "red"}]}, "no image"),
        ("probe", {"classes": None}, "needs at least two classes|are not in|unknown classes"),
        ("probe", {"shots": [4]}, r"3 classes have fewer than 8 training images"),
        ("probe", {"full": False}, "nothing to fit"),
        ("probe", {"where": {"a": "b"}}, "filters the rows of a `table`"),
        ("captions", {"captions": "nowhere"}, "no SugarCrepe JSON file"),
        ("captions", {"images": "classes/blue", "captions": {"0": {"filename": "x", "caption": "a", "negative_caption": "b"}}},
         "1 of 1 images of world are missing"),
        ("analogy", {"columns": ("row", "shape")}, r"no columns \['shape'\]; it has name, row, column"),
        ("analogy", {"columns": ("row", "row")}, "several classes have the attributes"),
        ("analogy", {"where": {"row": "1"}}, "no four classes"),
        ("confused", {"count": 0}, "at least one pair"),
    ],
)  # fmt: skip
def test_errors_come_before_training(
    sets: dict[str, Any],
    tmp_path: Path,
    make_module: Make,
    make_trainer: Callable[..., Trainer],
    kind: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    makers: dict[str, tuple[type, type]] = {
        "comparative": (ComparativePrompting, ComparativeSet), "edits": (Arithmetic, EditSet),
        "probe": (LinearProbe, LinearProbeSet), "captions": (Compositionality, CompositionalitySet),
        "analogy": (Analogies, AnalogySet), "confused": (ConfusedPairs, ConfusedSet),
    }  # fmt: skip
    for key, change in changes.items():
        if isinstance(change, list) and change and isinstance(change[0], dict):
            changes = {**changes, key: write_jsonl(tmp_path / "changed.jsonl", change)}
        elif key == "captions" and isinstance(change, dict):
            (tmp_path / "changed.json").write_text(json.dumps(change))
            changes = {**changes, key: str(tmp_path / "changed.json")}
        elif key == "images":
            changes = {**changes, key: str(tmp_path / change)}
    if kind == "probe" and "classes" in changes:  # all of the training images' classes, which lack one
        shutil.rmtree(tmp_path / "classes" / "yellow")
        shutil.rmtree(tmp_path / "classes" / "blue")
    callback, settings = makers[kind]
    module = make_module()
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make_trainer([callback({"world": settings(**{**sets[kind], **changes})})]).fit(module)
    assert module.model.encoded == 0


def test_one_name_for_two_sets_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\['world'\] are in `sets` and in `simat`"):
        Arithmetic({"world": EditSet("images", "edits.jsonl")}, {"world": SimatSet("simat_db")})


YAML = """
callbacks:
- class_path: pcclip.callbacks.ComparativePrompting
  init_args:
    sets:
      zoo: {images: a, templates: ["a {}"], texts: b.jsonl, table: c.jsonl, texts_column: wnid, alphas: [0.5, 0.9]}
- class_path: pcclip.callbacks.ConfusedPairs
  init_args: {sets: {zoo: {images: a, templates: ["a {}"], file: pairs.jsonl, count: 20, by: disagreement}}}
- class_path: pcclip.callbacks.Arithmetic
  init_args:
    sets: {world: {images: a, edits: b.jsonl}}
    simat: {simat: {folder: simat_db, domain: dev, oracle: triplets}}
    lambdas: [0, 1, 2]
- class_path: pcclip.callbacks.Analogies
  init_args: {sets: {zoo: {images: a, templates: ["a {}"], table: c.jsonl, columns: [shape, colour]}}}
- class_path: pcclip.callbacks.LinearProbe
  init_args: {sets: {zoo: {train: a, test: b, shots: [1, 4], full: false}}, num_workers: 2}
- class_path: pcclip.callbacks.Compositionality
  init_args: {sets: {sugarcrepe: {images: val2017, captions: data}}}
- class_path: pcclip.callbacks.AttributeRanking
  init_args: {sets: {zoo: {images: a, table: b.csv, texts: c.yaml, ceiling: true, images_per_draw: 100}}}
"""


def test_configured_by_yaml() -> None:
    parser = ArgumentParser()
    parser.add_argument("--callbacks", type=list[Callback])
    made = parser.instantiate_classes(parser.parse_string(YAML)).callbacks
    comparative, confused, arithmetic, analogies, probe, captions, ranking = made
    assert comparative.sets["zoo"].alphas == [0.5, 0.9]
    assert confused.sets["zoo"].by == "disagreement"
    assert arithmetic.simat == {"simat": SimatSet("simat_db", "dev", "triplets")}
    assert arithmetic.lambdas == [0, 1, 2]
    assert analogies.sets["zoo"].columns == ("shape", "colour")
    assert probe.sets["zoo"] == LinearProbeSet("a", "b", shots=[1, 4], full=False)
    assert captions.sets == {"sugarcrepe": CompositionalitySet("val2017", "data")}
    assert ranking.sets["zoo"].ceiling


def test_texts_of_a_second_test_are_not_encoded_again(
    sets: dict[str, Any], tmp_path: Path, make_module: Make, make_trainer: Callable[..., Trainer]
) -> None:
    def callbacks() -> list[EvaluationCallback]:
        kept = {"resamples": 5, "cache_dir": str(tmp_path / "cache")}
        return [
            ComparativePrompting({"world": ComparativeSet(**sets["comparative"])}, **kept),
            Arithmetic({"world": EditSet(**sets["edits"])}, **kept),
        ]

    rows, encoded = [], []
    for _ in range(2):
        module, own = make_module(), callbacks()
        make_trainer(list(own)).test(module, verbose=False)
        rows.append([row for callback in own for row in callback.rows])
        encoded.append((module.model.encoded, module.model.encoded_texts))
    assert rows[0] == rows[1]
    assert encoded[0][0] > 0
    assert encoded[0][1] > 0
    assert encoded[1] == (0, 0)

    other, own = make_module(), callbacks()
    with torch.no_grad():
        other.model.words.weight += 0.5
    make_trainer(list(own)).test(other, verbose=False)
    assert other.model.encoded == 0  # a second model costs its texts only
    assert other.model.encoded_texts == encoded[0][1]
    assert [row for callback in own for row in callback.rows] != rows[0]


@pytest.mark.parametrize("frozen", [True, False])
def test_test_measures_ensembles_of_checkpoint_and_configuration(
    sets: dict[str, Any], tmp_path: Path, make_module: Make, make_trainer: Callable[..., Trainer], frozen: bool
) -> None:
    def evaluations(name: str) -> list[Callback]:
        kept = {"resamples": 5, "cache_dir": str(tmp_path / "cache")}
        return [
            ResultsTable(str(tmp_path / f"{name}.json"), alphas=[0.5]),
            ComparativePrompting({"world": ComparativeSet(**sets["comparative"])}, **kept),
            Arithmetic({"world": EditSet(**sets["edits"])}, **kept),
            LinearProbe({"world": LinearProbeSet(**sets["probe"], shots=[1])}, **kept),
        ]

    trainer = make_trainer(evaluations("fit"))
    trainer.fit(make_module(frozen=frozen))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    encoded = []
    for checkpoint in (None, str(tmp_path / "last.ckpt"), str(tmp_path / "last.ckpt")):
        module = make_module(frozen=True)  # as in conf/eval, whatever was trained
        make_trainer(evaluations("test")).test(module, ckpt_path=checkpoint, verbose=False)
        encoded.append(module.model.encoded)
    fitted, tested = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("fit", "test"))
    assert [row["model"] for row in tested] == [row["model"] for row in fitted]
    for one, two in zip(fitted, tested, strict=True):
        assert one["value"] == pytest.approx(two["value"], abs=1e-6), one
    # 35 different files; the checkpoint and its ensemble have image towers of their own if it trained
    assert encoded == ([0, 0, 0] if frozen else [35, 70, 0])
