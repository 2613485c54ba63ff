"""Settings: sections, interpolation, overrides, and messages that name the key and the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from data_prep.cli import main, split_flags
from data_prep.config import load_sections, step_module

CONFIG = """
root: {root}
size: 4
steps: [one, two]
one: {{step: pairs, captions: "${{root}}/a.jsonl", output: "${{root}}/p.jsonl", group_size: "${{size}}"}}
two: {{step: pairs, captions: "${{root}}/b.jsonl", output: "${{root}}/q.jsonl"}}
shapes: {{output: "${{root}}/shapes", train: 4, val: 0, test: 2, per_class: 1, workers: 1}}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.format(root=tmp_path))
    return file


def test_sections_interpolation_and_overrides(config: Path, tmp_path: Path) -> None:
    one, two = load_sections(config, "all", ["size=6", "two.rounds=3"])
    assert (one.name, one.step, two.name) == ("one", "pairs", "two")
    assert one.options.captions == f"{tmp_path}/a.jsonl"
    assert (one.options.group_size, two.options.group_size, two.options.rounds) == (6, 16, 3)
    assert isinstance(one.options, step_module("pairs").Options)


def test_target_is_a_section_a_step_or_all(config: Path) -> None:
    assert [section.name for section in load_sections(config, "two")] == ["two"]
    assert [section.name for section in load_sections(config, "pairs")] == ["one", "two"]
    assert [section.name for section in load_sections(config, "shapes")] == ["shapes"]


@pytest.mark.parametrize(
    ("target", "overrides", "message"),
    [
        ("all", ["one.grup_size=3"], r"command line: unknown key `one.grup_size`.*group_size"),
        ("all", ["three.seed=3"], r"'three.seed' is no key of .*config.yaml"),
        ("all", ["sise=3"], r"'sise' is no key"),
        ("all", ["seed"], r"'seed' is not an override"),
        ("all", ["one.group_size=many"], r"config.yaml: `one.group_size`.*many"),
        ("shard", [], r"config.yaml: no section for 'shard'"),
        ("pears", [], r"no section for 'pears'; steps are shapes, shapes_eval, download"),
        ("all", ["steps=[one,ten]"], r"`steps` lists 'ten'"),
    ],
)
def test_bad_settings_name_the_key(config: Path, target: str, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_sections(config, target, overrides)


def test_flags_are_options_of_the_chosen_sections(config: Path) -> None:
    rest, flags = split_flags(["pairs", "--group-size", "5", "--config", "c", "--seed=2", "two.rounds=3", "--a"])
    assert (rest, flags) == (["pairs", "--config", "c", "two.rounds=3"], {"group_size": "5", "seed": "2", "a": "true"})
    sections = load_sections(config, "pairs", ["two.rounds=3", "one.seed=1"], {"group_size": "5", "seed": "2"})
    assert [vars(s.options)["group_size"] for s in sections] == [5, 5]
    assert [vars(s.options)["seed"] for s in sections] == [2, 2]
    assert [vars(s.options)["rounds"] for s in sections] == [1, 3]


def test_one_step_needs_no_config() -> None:
    [section] = load_sections(None, "pairs", [], {"captions": "a", "output": "b"})
    assert (section.name, section.options.captions, section.options.group_size) == ("pairs", "a", 16)


@pytest.mark.parametrize(
    ("target", "flags", "message"),
    [
        ("pairs", {"captions": "a"}, "command line: `pairs.output` is not set"),
        ("pairs", {"captions": "a", "output": "b", "sede": "1"}, "command line: unknown key `pairs.sede`"),
        ("pairs", {"captions": "a", "output": "b", "seed": "x"}, "command line: `pairs.seed`"),
        ("train_pairs", {}, "'train_pairs' needs --config FILE"),
        ("all", {"seed": "1"}, "needs --config FILE"),
    ],
)
def test_bad_flags_name_the_key(target: str, flags: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_sections(None, target, [], flags)


def test_flags_of_all_are_ambiguous(config: Path) -> None:
    with pytest.raises(ValueError, match="--seed: name its section instead"):
        load_sections(config, "all", [], {"seed": "1"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "pairs: {captions: a, output: b, unknown: 1}",
            "config.yaml: unknown key `pairs.unknown`; step `pairs` takes captions",
        ),
        ("pairs: {captions: a}", r"`pairs.output` is not set"),
        ("fancy: {captions: a}", r"section `fancy` runs no known step"),
        ("data: ???\npairs: {captions: '${data}/a', output: b}", r"variable `data` is not set.*data=\.\.\."),
        ("pairs: {captions: '${nowhere}/a', output: b}", r"section `pairs`.*nowhere"),
        ("pairs: [", r"config.yaml: not a valid config"),
        ("- pairs", r"expected a mapping"),
        ("pairs: {captions: a, output: b}", r"`all` needs a list `steps:`"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_sections(file, "all" if "steps" in message else "pairs")


EMBEDDED = {
    "demo": {"train_embed", "val_embed"},
    "photos": {"train_embed", "captions_embed", "val_embed", "class_pairs_embed"},
    "coco": {"train_embed", "val_embed"},
    "cub": set(),  # evaluated on, as pictures
}


@pytest.mark.parametrize("name", ["demo", "photos", "coco", "cub"])
def test_shipped_configs_parse_whole_and_every_step_finds_what_earlier_ones_write(name: str) -> None:
    file = Path(f"conf/data/{name}.yaml")
    given = ["root=ROOT", *(["data=somewhere"] if name == "photos" else [])]
    everything = load_sections(file, "all", given)
    embedded = load_sections(file, "embed", given) if EMBEDDED[name] else []
    assert {section.name for section in embedded} == EMBEDDED[name]
    written: list[str] = []
    for section in [*everything, *(section for section in embedded if section not in everything)]:
        options = dict(vars(section.options))
        output = options.pop("output", None)  # `verify` writes nothing
        # `captions` unpacks shards into `images`, for all else a path is an input
        unpacked = [options.pop("images")] if options.get("source") == "shards" else []
        for value in options.values():
            for path in value if isinstance(value, list) else [value]:
                if str(path).startswith("ROOT/"):
                    assert any(Path(path).is_relative_to(folder) for folder in written), (section.name, path)
        made = [path for path in (output, *unpacked) if path is not None]
        assert not set(made) & set(written), section.name
        written += made


def test_the_paper_is_trained_on_what_is_embedded_from_coco() -> None:
    train, val = load_sections(Path("conf/data/coco.yaml"), "embed")
    run = yaml.safe_load(Path("conf/paper.yaml").read_text())
    assert (run["data"]["train"], run["data"]["val"]) == ([train.options.output], [val.options.output])
    cells = yaml.safe_load(Path("conf/ablations.yaml").read_text())["paper"]["cells"]
    both = cells["both towers, scale 10, lr 1e-5"]
    assert (both["data.train"], both["data.val"]) == ([train.options.shards], [val.options.shards])
    rewrite, *steps = load_sections(Path("conf/data/coco_ablations.yaml"), "all", ["model=NAME"])
    rewritten_shard, rewritten, quarter_shard, quarter = (step.options for step in steps)
    assert rewrite.options.captions in [
        s.options.output for s in load_sections(Path("conf/data/coco.yaml"), "captions")
    ]
    assert [rewrite.options.output] == rewritten_shard.captions
    (whole,) = (
        s for s in load_sections(Path("conf/data/coco.yaml"), "shard") if s.options.output == train.options.shards
    )
    assert quarter_shard.captions == whole.options.captions
    assert quarter_shard.differences == whole.options.differences
    for shard, embed, cell in (
        (rewritten_shard, rewritten, "rewritten captions only"),
        (quarter_shard, quarter, "a quarter of the pairs, scale 10, lr 1e-5"),
    ):
        assert shard.output == embed.shards
        assert cells[cell]["data.train"] == [embed.output]
    tower = (run["model"]["clip"]["name"], run["model"]["clip"]["pretrained"])
    assert {(o.model, o.pretrained) for o in (train.options, val.options, rewritten, quarter)} == {tower}


def test_photos_config_keeps_validation_apart() -> None:
    sections = {section.name: section.options for section in load_sections(Path("conf/data/photos.yaml"), "all")}
    assert sections["train_shard"].groups_exclude == sections["val_shard"].groups_include
    # Pictures of held-out groups count as paired only if the step is told of all groups.
    assert sections["captions_shard"].differences == sections["train_shard"].differences
    towers = [sections[name] for name in sorted(EMBEDDED["photos"])]
    assert len({(tower.model, tower.image_weights, str(tower.preprocess)) for tower in towers}) == 1


def test_command_runs_and_restarts(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shapes", "--config", str(config), "shapes.train=5"]) == 0
    assert len(list((tmp_path / "shapes/train/images").iterdir())) == 5
    assert main(["shapes", "--config", str(config), "shapes.train=5"]) == 0
    assert "is up to date" in capsys.readouterr().out


def test_command_reports_errors_in_one_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["one", "--config", str(config)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pcclip-data: error: ")
    assert "a.jsonl" in error
    assert error.count("\n") == 1
    assert main(["all", "--config", "nowhere.yaml"]) == 2
