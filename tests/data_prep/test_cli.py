"""The command line and its chains: sections, interpolation, overrides, and errors that name the key and the file."""

import re
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_prep.chain import parse_steps, step_class
from data_prep.cli import STEPS, main
from data_prep.steps.pairs import Pairs

CONFIG = """
root: {root}
size: 4
defaults:
  pairs: {{rounds: 2}}
steps: [one, two]
one: {{step: pairs, captions: "${{root}}/a.jsonl", output: "${{root}}/p.jsonl", group_size: "${{size}}"}}
two: {{step: pairs, captions: "${{root}}/b.jsonl", output: "${{root}}/q.jsonl", rounds: 3}}
shapes: {{output: "${{root}}/shapes", train: 4, val: 0, test: 2, per_class: 1, workers: 1}}
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG.format(root=tmp_path))
    return str(file)


def sections(target: str, *files: str, flags: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Options of the sections by name."""
    words = [word for file in files for word in ("--config", file)]
    return {name: asdict(step) for name, step in parse_steps([target, *words, *(flags or [])]).items()}


def test_sections_interpolation_and_overrides(config: str, tmp_path: Path) -> None:
    steps = parse_steps(["all", "--config", config, "--size", "6", "--two.seed=5"])
    one, two = steps.values()
    assert list(steps) == ["one", "two"]
    assert isinstance(one, Pairs)
    assert isinstance(two, Pairs)
    assert one.captions == f"{tmp_path}/a.jsonl"
    assert (one.group_size, one.rounds, one.seed) == (6, 2, 0)
    assert (two.group_size, two.rounds, two.seed) == (16, 3, 5)


def test_a_later_file_adds_sections_and_wins(config: str, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("size: 8\nsteps: [three, one]\nthree: {step: pairs, captions: c, output: '${root}/r.jsonl'}\n")
    found = sections("all", config, str(other))
    assert list(found) == ["three", "one"]
    assert (found["three"]["output"], found["three"]["rounds"]) == (f"{tmp_path}/r.jsonl", 2)
    assert found["one"]["group_size"] == 8


def test_the_name_of_a_section_has_its_split_and_its_step(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "root: a\n"
        "defaults:\n"
        "  pairs: {captions: '${root}/${split}/c.jsonl', output: '${root}/${split}/p.jsonl'}\n"
        "  confused_pairs: {images: i, output: '${root}/${split}', count: 3, model: m}\n"
        "  shard: {captions: ['${split}.jsonl'], output: '${split}'}\n"
        "train_pairs: {}\nbirds_confused_pairs: {}\nconfused_pairs: {output: o}\nhalf: {step: shard}\n"
    )
    found = sections("all", str(file), flags=["--root=b"])
    assert (found["train_pairs"]["captions"], found["train_pairs"]["output"]) == ("b/train/c.jsonl", "b/train/p.jsonl")
    assert [found[name]["output"] for name in list(found)[1:]] == ["b/birds", "o", "half"]
    assert found["half"]["captions"] == ["half.jsonl"]


def test_target_is_a_section_a_step_or_all(config: str, tmp_path: Path) -> None:
    assert list(sections("two", config)) == ["two"]
    assert list(sections("pairs", config)) == ["one", "two"]
    assert list(sections("shapes", config)) == ["shapes"]
    unlisted = tmp_path / "unlisted.yaml"
    unlisted.write_text("b: {step: shapes, output: b}\na: {step: shapes, output: a}\n")
    assert list(sections("all", str(unlisted))) == ["b", "a"]


def test_one_step_needs_no_config() -> None:
    (step,) = parse_steps(["pairs", "--captions", "a", "--output=b"]).values()
    assert step == Pairs(captions="a", output="b")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("all --config=CONFIG --one.grup_size=3", ["config.yaml", "one.grup_size"]),
        ("all --config=CONFIG --three.seed=3", ["three.seed"]),
        ("all --config=CONFIG --one.group_size=many", ["config.yaml", "one.group_size", "many"]),
        ("all --config CONFIG --one.dealing=alike", ["one.dealing", "alike", "similar"]),
        ("shard --config=CONFIG", ["config.yaml", "shard", "one, two, shapes"]),
        ("pears --config=CONFIG", ["pears"]),
        ("all --config=CONFIG --config=nowhere.yaml", ["nowhere.yaml"]),
        ("pairs --captions=a", ["output"]),
        ("pairs --captions=a --output=b --sede=1", ["sede"]),
        ("pairs --captions=a --output=b --seed=x", ["seed"]),
        ("pairs --captions=a --output=b --group_size=1", ["pairs", "group_size"]),
        ("train_pairs", ["train_pairs"]),
        ("all --seed=1", ["--config"]),
    ],
)
def test_bad_words_are_named_in_one_line(
    config: str, words: str, named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("CONFIG", config) for word in words.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pcclip-data: error: ")
    assert error.count("\n") == 1
    assert all(name in error for name in named), error


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("pairs: {captions: a, output: b, unknown: 1}", "unknown"),
        ("pairs: {captions: a}", "pairs.output"),
        ("fancy: {captions: a}", "fancy"),
        ("data: ???\npairs: {captions: '${data}/a', output: b}", "data"),
        ("pairs: {captions: '${nowhere}/a', output: b}", "nowhere"),
        ("pairs: {captions: '${split}/a', output: b}", "split"),
        ("pairs: [", "config.yaml"),
        ("- pairs", "config.yaml"),
        ("steps: [pairs, ten]\npairs: {captions: a, output: b}", "ten"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=named) as raised:
        parse_steps(["all", "--config", str(file)])
    assert str(file) in str(raised.value)


@pytest.mark.parametrize("name", STEPS)
def test_help_lists_every_option_with_its_description(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    _, *options = shown.partition("options:")[2].split("\n  --")
    named = [text.split()[0].rstrip(",") for text in options]
    assert {option for option in named if not option.endswith(".help")} == {
        field.name for field in fields(step_class(name))
    }
    short = [text.split()[0] for text in options if len(re.split(r"\((?:required|type)", text)[0].split()) < 5]
    assert short == []


def test_the_overview_imports_nothing_slow() -> None:
    slow = "{'torch', 'numpy', 'jsonargparse', 'pydantic'}"
    code = f"import sys; from data_prep.cli import main; main(['--help']); assert not {slow} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in STEPS)


EMBEDDED = {
    "demo": {"train_embed", "val_embed"},
    "photos": {"train_embed", "captions_embed", "val_embed", "class_pairs_embed"},
    "coco": {"train_embed", "val_embed"},
    "cub": set(),  # evaluated on, as pictures
}


@pytest.mark.parametrize("name", ["demo", "photos", "coco", "cub"])
def test_shipped_configs_parse_whole_and_every_step_finds_what_earlier_ones_write(name: str) -> None:
    file, root = f"conf/data/{name}.yaml", ["--root=ROOT"]
    embedded = sections("embed", file, flags=root) if EMBEDDED[name] else {}
    assert set(embedded) == EMBEDDED[name]
    written: list[str] = []
    for section, options in {**sections("all", file, flags=root), **embedded}.items():
        output = options.pop("output", None)  # `verify` writes nothing
        # `captions` unpacks shards into `images`, for all else a path is an input
        unpacked = [options.pop("images")] if options.get("source") == "shards" else []
        for value in options.values():
            for path in value if isinstance(value, list) else [value]:
                if str(path).startswith("ROOT/"):
                    assert any(Path(path).is_relative_to(folder) for folder in written), (section, path)
        made = [path for path in (output, *unpacked) if path is not None]
        assert not set(made) & set(written), section
        written += made


def test_every_section_of_a_shipped_chain_is_understood(tmp_path: Path) -> None:
    bases = {"demo_ablations": "demo", "photos_ablations": "photos", "photos_roles": "photos", "coco_ablations": "coco"}
    bases["coco_paper"] = "coco"
    for file in sorted(Path("conf/data").glob("*.yaml")):
        files = [f"conf/data/{bases[file.stem]}.yaml"] if file.stem in bases else []
        flags = ["--set=cub", "--kind=birds"] if file.stem == "class_texts" else []
        chain = yaml.safe_load(file.read_text())
        names = [name for name, section in chain.items() if isinstance(section, dict) and name != "defaults"]
        every = tmp_path / "every.yaml"
        every.write_text(yaml.safe_dump({"steps": names}))
        assert list(sections("all", *files, str(file), str(every), flags=flags)) == names


def test_the_paper_is_trained_on_what_is_embedded_from_coco() -> None:
    coco = "conf/data/coco.yaml"
    train, val = sections("embed", coco).values()
    run = yaml.safe_load(Path("conf/paper.yaml").read_text())
    assert (run["data"]["train"], run["data"]["val"]) == ([train["output"]], [val["output"]])
    cells = yaml.safe_load(Path("conf/ablations.yaml").read_text())["paper"]["cells"]
    both = cells["both towers, scale 10, lr 1e-5"]
    assert (both["data.train"], both["data.val"]) == ([train["shards"]], [val["shards"]])
    ablations = sections("all", coco, "conf/data/coco_ablations.yaml", flags=["--model=NAME"])
    rewrite, rewritten_shard, rewritten, quarter_shard, quarter = ablations.values()
    assert rewrite["captions"] in [options["output"] for options in sections("captions", coco).values()]
    assert [rewrite["output"]] == rewritten_shard["captions"]
    (whole,) = (options for options in sections("shard", coco).values() if options["output"] == train["shards"])
    assert quarter_shard["captions"] == whole["captions"]
    assert quarter_shard["differences"] == whole["differences"]
    for shard, embed, cell in (
        (rewritten_shard, rewritten, "rewritten captions only"),
        (quarter_shard, quarter, "a quarter of the pairs, scale 10, lr 1e-5"),
    ):
        assert shard["output"] == embed["shards"]
        assert cells[cell]["data.train"] == [embed["output"]]
    tower = (run["model"]["clip"]["name"], run["model"]["clip"]["pretrained"])
    assert {(o["model"], o["pretrained"]) for o in (train, val, rewritten, quarter)} == {tower}


def test_photos_config_keeps_validation_apart() -> None:
    chain = sections("all", "conf/data/photos.yaml")
    assert chain["train_shard"]["groups_exclude"] == chain["val_shard"]["groups_include"]
    # Pictures of held-out groups count as paired only if the step is told of all groups.
    assert chain["captions_shard"]["differences"] == chain["train_shard"]["differences"]
    towers = [chain[name] for name in EMBEDDED["photos"]]
    assert len({(tower["model"], tower["image_weights"], str(tower["preprocess"])) for tower in towers}) == 1


def test_command_runs_and_restarts(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["shapes", "--config", config, "--shapes.train=5"]) == 0
    assert len(list((tmp_path / "shapes/train/images").iterdir())) == 5
    assert "is up to date" in capsys.readouterr().out
    assert main(["one", "--config", config]) == 2
    assert "a.jsonl" in capsys.readouterr().err
