"""What every command does with bad input: one clear line, exit code 2, and nothing half-written."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pcclip.cli import TOOLS, main, tool_parser
from pcclip.model import load_clip, save_clip
from tests.helpers.models import make_clip, write_config

AXIS = "--more brighter --less darker"
# What is wrong: the command, with {places} of the fixture below, and what the line must say.
CASES = {
    "rank empty folder": (f"rank {{empty}} {AXIS} --model {{model}}", r"empty: no pictures in it"),
    "rank no such folder": (f"rank {{nowhere}} {AXIS} --model {{model}}", r"nowhere: not found; give a folder"),
    "rank only broken pictures": (f"rank {{broken}} {AXIS} --model {{model}}", "none of the 2 pictures can be read"),
    "rank broken shard": (f"rank {{tar}} {AXIS} --model {{model}}", r"bad.tar: not a readable tar"),
    "rank no model": (f"rank {{photos}} {AXIS} --model {{nowhere}}", r"nowhere: not found; give a saved folder"),
    "rank corrupt folder": (f"rank {{photos}} {AXIS} --model {{corrupt}}", r"corrupt: corrupt, or not a saved model"),
    "rank huggingface folder": (f"rank {{photos}} {AXIS} --model {{hf}}", r"hf: a model for Hugging Face, which"),
    "rank corrupt checkpoint": (f"rank {{photos}} {AXIS} --model {{corrupt_ckpt}}", r"bad.ckpt: corrupt, or not a"),
    "rank pickled checkpoint": (f"rank {{photos}} {AXIS} --model {{pickled}}", r"pickled.ckpt: corrupt, or not a"),
    "rank other architecture": (
        f"rank {{photos}} {AXIS} --model {{other_ckpt}}",
        r"other.ckpt: of another architecture",
    ),
    "rank lost checkpoint": (f"rank {{photos}} {AXIS} --model {{lost_ckpt}}", r"lost.ckpt: no config.yaml beside it"),
    "rank unknown name": (f"rank {{photos}} {AXIS} --model ViT-B-33", r"unknown CLIP model 'ViT-B-33'"),
    "rank name without tag": (f"rank {{photos}} {AXIS} --model ViT-B-32", r"ViT-B-32: knows nothing without weights"),
    "rank tag for folder": (f"rank {{photos}} {AXIS} --model {{model}} --pretrained a", "carries its weights"),
    "rank bad device": (f"rank {{photos}} {AXIS} --model {{model}} --device abacus", "device 'abacus'"),
    "rank both axes": (f"rank {{photos}} {AXIS} --attribute size", "either --more and --less, or --attribute"),
    "rank half an axis": ("rank {photos} --more brighter", "1 texts for more and 0 for less"),
    "rank no pictures": (f"rank {AXIS}", "no PICTURES given"),
    "rank same texts": ("rank {photos} --more a --less a", "must be two different texts"),
    "rank unknown attribute": ("rank {photos} --attribute taste", r'attributes.yaml: no attribute "taste"'),
    "rank pairs and folder": ("rank {photos} --attribute size --pairs a b", "leave PICTURES and --classify out"),
    "rank both thresholds": (
        "rank {photos} --classify --attribute size --threshold 0 --examples e.csv",
        "either --threshold or --examples",
    ),
    "rank stray threshold": ("rank {photos} --attribute size --threshold 0", "belong to --classify"),
    "rank unknown option": ("rank {photos} --colour red", "unrecognized arguments: --colour red"),
    "rank both caches": (f"rank {{photos}} {AXIS} --cache c --no-cache", "not allowed with argument"),
    "rank no permission": (f"rank {{photos}} {AXIS} --model {{model}} --output {{file}}/r.csv", "cannot be written"),
    "rank cache in a file": (
        f"rank {{photos}} {AXIS} --model {{model}} --cache {{file}}/c",
        r"file/c: .*(Not a directory|is a file)",
    ),
    "rank cache that is a file": (
        f"rank {{photos}} {AXIS} --model {{model}} --cache {{file}}",
        r"/file: .*another folder",
    ),
    "rank folder of attributes": ("rank {photos} --attribute size --attributes {photos}", r"photos: is a folder"),
    "rank folder without a model": (
        f"rank {{photos}} {AXIS} --model {{photos}}",
        r"photos: a folder without a saved model",
    ),
    "rank pair of a folder": (
        "rank --pairs {photos} {picture} --attribute size --model {model}",
        r"photos.* name two picture",
    ),
    "search folder as image": ("search {photos} --image {photos} --text a --model {model}", r"photos: is a folder"),
    "search empty folder": ("search {empty} --image {picture} --text a --model {model}", "no pictures in it"),
    "search broken picture": (
        "search {photos} --image {broken}/0.png --text a --model {model}",
        "none of the 1 pictures can be read",
    ),
    "search corrupt checkpoint": (
        "search {photos} --image {picture} --text a --model {corrupt_ckpt}",
        "bad.ckpt: corr",
    ),
    "search other architecture": ("search {photos} --image {picture} --text a --model {other_ckpt}", "of another arch"),
    "search same lambdas": ("search {photos} --image {picture} --text a --lambda 1 1", "the same number twice"),
    "search no permission": ("search {photos} --image {picture} --text a --output {file}/f.csv", "cannot be written"),
    "prompt one class": ("prompt {photos} --classes cat --model {model}", "at least two names"),
    "prompt bad template": ("prompt {photos} --classes a,b --template x --model {model}", "has no {} for the class"),
    "prompt alpha alone": ("prompt {photos} --classes a,b --alpha 0.5", "give both or neither"),
    "prompt ask alone": ("prompt {photos} --classes a,b --ask m --model {model}", "--ask needs --comparatives FILE"),
    "prompt endpoint alone": ("prompt {photos} --classes a,b --base-url u", "belong to --ask MODEL"),
    "prompt no endpoint": (
        "prompt {photos} --classes a,b --comparatives {new} --ask m --base-url http://me:pw@x --model {model}",
        "must hold no user, password",
    ),
    "prompt answers nowhere": (
        "prompt {photos} --classes a,b --comparatives {file}/c --ask m --base-url http://x --model {model}",
        "cannot be written",
    ),
    "prompt corrupt checkpoint": ("prompt {photos} --classes a,b --model {corrupt_ckpt}", "bad.ckpt: corrupt"),
    "prompt other architecture": ("prompt {photos} --classes a,b --model {other_ckpt}", "of another architecture"),
    "prompt no permission": (
        "prompt {photos} --classes a,b --output {file}/c.csv --model {model}",
        "cannot be written",
    ),
    "prompt unknown class": (
        "prompt {photos} --classes a,b --comparatives {texts} --model {model}",
        "which are not among the 2 classes",
    ),
    "prompt empty folder": ("prompt {empty} --classes a,b --model {model}", "no pictures in it"),
    "ensemble other architecture": (
        "ensemble --base {model} --model {other} --alpha 0.5 --output {new}",
        r"\(towers\.",
    ),
    "ensemble corrupt": ("ensemble --base {corrupt} --model {model} --alpha 0.5 --output {new}", "corrupt"),
    "ensemble alpha": ("ensemble --base {model} --model {model} --alpha 2 --output {new}", "from 0 .base. to 1"),
    "ensemble both": (
        "ensemble --base {model} --model {model} --alpha 0.5 --alphas 0 1 --output {new}",
        "--alphas belongs to --sweep",
    ),
    "ensemble corrupt checkpoint": (
        "ensemble --base {corrupt_ckpt} --model {model} --alpha 0.5 --output {new}",
        "bad.ckpt: corrupt",
    ),
    "ensemble no permission": (
        "ensemble --base {model} --model {model} --alpha 0.5 --output {file}/e",
        "cannot be written",
    ),
    "ensemble occupied": ("ensemble --base {model} --alpha 0.5 --output {photos}", "photos: exists"),
    "ensemble no configuration": (
        "ensemble --base {model} --model {model} --sweep {nowhere} --output {new}",
        "configuration not found",
    ),
    "export occupied": ("export --model {model} --format open_clip --output {photos}", "photos: exists"),
    "export no permission": ("export --model {model} --format open_clip --output {file}/x", "cannot be written"),
    "export corrupt checkpoint": (
        "export --model {corrupt_ckpt} --format open_clip --output {new}",
        "bad.ckpt: corrupt",
    ),
    "export other architecture": (
        "export --model {other_ckpt} --format open_clip --output {new}",
        "of another architecture",
    ),
    "export contradiction": (
        "export --model {model} --format open_clip --text-only --output {new}",
        "to Hugging Face only",
    ),
    "export impossible": ("export --model {other} --format huggingface --output {new}", "ModifiedResNet"),
    "export unknown format": ("export --model {model} --format onnx --output {new}", "invalid choice: 'onnx'"),
    "report empty folder": ("report {empty} --output {new}.html", "no results.json in it"),
    "report corrupt": ("report {texts} --output {new}.html", "expected a list of result rows|not JSON"),
    "rank other suffix": (f"rank {{photos}} {AXIS} --output {{new}}.txt", "must end in .csv"),
    "report other suffix": ("report {empty} --output {new}.pdf", "must end in .html"),
    "report occupied": ("report {empty} --output {page}", "page.html: exists; .* --overwrite"),
    "generate other suffix": (
        "generate --pipeline {empty} --prompt a --difference b --model {model} --output {new}.jpg",
        "must end in .png",
    ),
    "report no permission": ("report {empty} --output {file}/r.html", "cannot be written"),
    "generate no pipeline": (
        "generate --pipeline {empty} --prompt a --difference b --model {model} --output {new}.png",
        "not the folder of a diffusers pipeline",
    ),
    "generate corrupt checkpoint": (
        "generate --pipeline {empty} --prompt a --difference b --model {corrupt_ckpt} --output {new}.png",
        "bad.ckpt: corrupt",
    ),
    "generate other architecture": (
        "generate --pipeline {empty} --prompt a --difference b --model {other_ckpt} --output {new}.png",
        "of another architecture",
    ),
    "generate no permission": (
        "generate --pipeline {empty} --prompt a --difference b --model {model} --output {file}/g.png",
        "cannot be written",
    ),
    "generate same lambdas": (
        "generate --pipeline {empty} --prompt a --difference b --lambda 1 1 --model {model} --output {new}.png",
        "the same number twice",
    ),
    "demo other architecture": ("demo {photos} --model {other_ckpt}", "of another architecture"),
    "demo corrupt checkpoint": ("demo {photos} --model {corrupt_ckpt}", "bad.ckpt: corrupt"),
    "demo empty folder": ("demo {empty} --model {model}", "no pictures in it"),
    "demo no folder": ("demo --model {model}", "no pictures to choose from"),
    "demo no model": ("demo {photos} --model {model} --model {nowhere}", "nowhere: not found"),
    "demo corrupt base": ("demo {photos} --model {model} --base {corrupt}", "corrupt: corrupt, or not a saved model"),
    "demo no root": ("demo {photos} --model {model} --root {nowhere}", "nowhere: .*--root"),
    "demo empty root": ("demo {photos} --root {empty}", "no model to choose"),
    "demo no port": ("demo {photos} --model {nowhere} --port 70000", "--port 70000: .*65535"),
    "demo no host": ("demo {photos} --model {nowhere} --host 192.0.2.1", "192.0.2.1.*cannot listen"),
    "demo tag of two": ("demo {photos} --model a --model b --pretrained c", "belongs to one --model"),
}
NEEDS = {"generate": "diffusers", "demo": "gradio", "export impossible": "transformers"}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, saved: Path) -> dict[str, Path]:
    """Everything that can be wrong with a path."""
    root = tmp_path_factory.mktemp("places")
    for folder in ("empty", "broken", "corrupt", "hf", "run/checkpoints", "lost/a/b"):
        (root / folder).mkdir(parents=True)
    for number in range(2):
        (root / "broken" / f"{number}.png").write_bytes(b"no picture")
    (root / "bad.tar").write_bytes(b"no tar" * 500)
    (root / "file").write_text("a file")
    (root / "page.html").write_text("a page")
    (root / "hf" / "config.json").write_text('{"model_type": "clip"}')
    (root / "texts.jsonl").write_text(json.dumps({"first": "a", "second": "owl", "text": "x"}) + "\n")
    (root / "corrupt" / "open_clip_config.json").write_text((saved / "open_clip_config.json").read_text())
    (root / "corrupt" / "open_clip_model.safetensors").write_bytes(b"no weights")
    save_clip(make_clip(root, "resnet"), root / "other")
    (root / "run" / "config.yaml").write_text(yaml.safe_dump({"model": {"clip": {"name": f"local-dir:{saved}"}}}))
    state = {f"model.{key}": value for key, value in make_clip(root, "resnet").state_dict().items()}
    torch.save({"state_dict": state}, root / "run/checkpoints/other.ckpt")
    torch.save({"state_dict": state}, root / "lost/a/b/lost.ckpt")
    torch.save({"state_dict": state, "callbacks": Path("an object")}, root / "run/checkpoints/pickled.ckpt")
    (root / "run/checkpoints/bad.ckpt").write_bytes(b"no checkpoint")
    found = {name: root / name for name in ("empty", "broken", "corrupt", "file", "hf", "other", "nowhere", "new")}
    return found | {
        "tar": root / "bad.tar",
        "texts": root / "texts.jsonl",
        "page": root / "page.html",
        "model": saved,
        "corrupt_ckpt": root / "run/checkpoints/bad.ckpt",
        "pickled": root / "run/checkpoints/pickled.ckpt",
        "other_ckpt": root / "run/checkpoints/other.ckpt",
        "lost_ckpt": root / "lost/a/b/lost.ckpt",
    }


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_nothing_written(
    case: str, places: dict[str, Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    command, message = CASES[case]
    for start, package in NEEDS.items():
        if case.startswith(start) and importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    words = [word.format(photos=photos, picture=photos / "00.png", **places) for word in command.split(" ")]
    (tmp_path / "conf").symlink_to(Path("conf").absolute())
    monkeypatch.chdir(tmp_path)
    before = everything(tmp_path, *places.values())
    try:
        code = main(words)
    except SystemExit as ended:  # argparse's way
        code = ended.code  # type: ignore[assignment]
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if "error: " in line]
    assert code == 2, said.err
    assert len(errors) == 1
    assert errors[0].startswith(f"pcclip {words[0]}: error: ")
    assert re.search(message, errors[0]), errors[0]
    assert "Traceback" not in said.err
    assert everything(tmp_path, *places.values()) == before


def everything(*roots: Path) -> set[tuple[Path, int]]:
    """All files below some folders with their sizes, but for the embeddings' store, which is meant to stay."""
    files = {file for root in roots for file in [root, *root.rglob("*")] if file.is_file()}
    return {(file, file.stat().st_size) for file in files if "xdg" not in file.parts}


def test_every_command_is_covered() -> None:
    assert {case.split(" ")[0] for case in CASES} == set(TOOLS)


@pytest.mark.parametrize("tool", TOOLS)
def test_help_is_there(tool: str) -> None:
    assert tool_parser(tool).format_help().startswith(f"usage: pcclip {tool}")


def test_checkpoint_in_its_run_folder_is_loaded(tmp_path: Path, saved: Path) -> None:
    from pcclip import load

    torch.manual_seed(1)
    other = load_clip(write_config(tmp_path, "vit"), head="linear")
    save_clip(load_clip(write_config(tmp_path, "vit")), tmp_path / "start")
    run = tmp_path / "runs" / "version_0"
    (run / "checkpoints").mkdir(parents=True)
    # As training was started in `tmp_path`, which is not where we are.
    model = {"clip": {"name": "local-dir:start"}, "head": "linear"}
    (run / "config.yaml").write_text(yaml.safe_dump({"model": model}))
    state = {f"model.{key}": value for key, value in other.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, run / "checkpoints" / "last.ckpt")
    found = load(str(run / "checkpoints" / "last.ckpt"))
    for key, value in found.clip.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
