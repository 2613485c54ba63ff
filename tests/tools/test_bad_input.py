"""What every command does with bad input: one clear line, exit code 2, and nothing half-written."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from pcclip.cli import TOOLS, main
from pcclip.model import save_clip
from tests.helpers.models import make_clip

NEEDS = {"generate": "diffusers", "demo": "gradio"}
PICTURES = {
    "rank": "rank {photos} --attribute size",
    "classify": "classify {photos} --attribute size --threshold 0",
    "search": "search {photos} --image {picture} --text a",
    "prompt": "prompt {photos} --classes a,b",
}
GENERATE = "generate --pipeline {empty} --prompt a --difference b"
WITH_MODEL = {
    **PICTURES,
    "compare": "compare {picture} {picture} --attribute size",
    "ensemble": "ensemble --base {model} --alpha 0.5 --output {new}",
    "export": "export --format open_clip --output {new}",
    "generate": f"{GENERATE} --output {{new}}.png",
    "demo": "demo {photos}",
}
WITH_OUTPUT = {
    **PICTURES,
    "ensemble": "ensemble --base {model} --alpha 0.5",
    "export": "export --format open_clip",
    "generate": GENERATE,
    "report": "report {empty}",
}
ENDING = {"generate": ".png", "report": ".html", "ensemble": "", "export": ""}
# What is wrong: the command, with {places} of the fixture below, and what the line must name.
CASES = {
    **{
        f"{tool} {{corrupt_ckpt}}": (f"{words} --model {{corrupt_ckpt}}", "bad.ckpt")
        for tool, words in WITH_MODEL.items()
    },
    **{
        f"{tool} {{other_ckpt}}": (f"{words} --model {{other_ckpt}}", "other.ckpt")
        for tool, words in WITH_MODEL.items()
    },
    **{
        f"{tool} output": (f"{words} --output {{file}}/x{ENDING.get(tool, '.csv')}", "file/x.* cannot be written")
        for tool, words in WITH_OUTPUT.items()
    },
    **{
        f"{tool} suffix": (f"{words} --output {{new}}.pdf", rf"new.pdf.*{ENDING.get(tool, '.csv')}")
        for tool, words in WITH_OUTPUT.items()
        if ENDING.get(tool) != ""
    },
    **{
        f"{tool} empty folder": (words.replace("{photos}", "{empty}") + " --model {model}", "/empty")
        for tool, words in {**PICTURES, "demo": "demo {photos}"}.items()
    },
    **{
        f"rank {source}": (f"rank {{photos}} --attribute size --model {source}", named)
        for source, named in {
            "{nowhere}": "nowhere",
            "{corrupt}": "corrupt",
            "{hf}": "hf.* Hugging Face",
            "{corrupt_adapter}": "adapter_model.safetensors.*corrupt",
            "{no_adapter}": "adapter_config.json",
            "{lost_adapter}": "adapter_config.json.*base_model",
            "{pickled}": "pickled.ckpt",
            "{foreign_ckpt}": "foreign.ckpt",
            "{photos}": "photos",
            "ViT-B-33": "ViT-B-33",
            "ViT-B-32": "ViT-B-32.*pretrained",
            "{model} --pretrained a": "pretrained",
            "{model} --device abacus": "abacus",
            "{model} --cache {file}/c": "file/c",
            "{model} --cache {file}": "/file",
        }.items()
    },
    "rank nowhere": ("rank {nowhere} --attribute size", "nowhere"),
    "rank broken": ("rank {broken} --attribute size --model {model}", "2 pictures"),
    "rank broken shard": ("rank {tar} --attribute size", "bad.tar"),
    "rank not UTF-8": ("rank {latin} --attribute size", "latin.txt"),
    "rank both axes": ("rank {photos} --more a --less b --attribute size", "--attribute"),
    "rank two axes": ("rank {photos} --attribute [size,count]", "--attribute"),
    "rank half an axis": ("rank {photos} --more brighter", "1 texts for more and 0 for less"),
    "rank same texts": ("rank {photos} --more a --less a", "'a'"),
    "rank one end": ("rank {photos} --high {picture}", "--low"),
    "rank no example": ("rank {photos} --high {picture} --low {nowhere}", "nowhere"),
    "rank same examples": ("rank {photos} --high {picture} --low {picture} --model {model}", "examples"),
    "rank blend": ("rank {photos} --high {picture} --low {picture} --blend 2", "blend"),
    "rank key of attributes": ("rank {photos} --attribute size --attributes {texts}", "texts"),
    "rank no pictures": ("rank --attribute size", "pictures"),
    "rank unknown attribute": ("rank {photos} --attribute taste", "attributes.yaml.*taste"),
    "rank folder of attributes": ("rank {photos} --attribute size --attributes {photos}", "photos"),
    "rank unknown option": ("rank {photos} --colour red", "--colour red"),
    "rank unknown variable": ("rank {photos} --more ${{modl}} --less b", "modl"),
    "rank batch": ("rank {photos} --attribute size --batch_size 0", "batch_size"),
    "classify both": ("classify {photos} --attribute size --threshold 0 --examples e.csv", "--examples"),
    "classify neither": ("classify {photos} --attribute size", "--examples"),
    "classify threshold": ("classify {photos} --attribute [size,count] --threshold.size 0", "count"),
    "compare folder": ("compare {photos} {picture} --attribute size --model {model}", "photos"),
    "compare three": ("compare a b c --attribute size", "3"),
    "search folder as image": ("search {photos} --image {photos} --text a", "photos"),
    "search broken picture": ("search {photos} --image {broken}/0.png --text a --model {model}", "1 pictures"),
    "prompt one class": ("prompt {photos} --classes cat", "cat"),
    "prompt bad template": ("prompt {photos} --classes a,b --template x --model {model}", '"x"'),
    "prompt alpha": ("prompt {photos} --classes a,b --alpha 2", "alpha"),
    "prompt ask alone": ("prompt {photos} --classes a,b --ask.model m --model {model}", "--comparatives"),
    "prompt endpoint alone": ("prompt {photos} --classes a,b --ask.base_url u", "ask.model|model"),
    "prompt no endpoint": (
        "prompt {photos} --classes a,b --comparatives {new} --ask.model m --ask.base_url http://me:pw@x --model {model}",
        "user, password",
    ),
    "prompt answers nowhere": (
        "prompt {photos} --classes a,b --comparatives {file}/c --ask.model m --ask.base_url http://x --model {model}",
        "file/c",
    ),
    "prompt unknown class": ("prompt {photos} --classes a,b --comparatives {texts} --model {model}", "texts.*owl|owl"),
    "ensemble other architecture": ("ensemble --base {model} --model {other} --alpha 0.5 --output {new}", r"towers\."),
    "ensemble corrupt": ("ensemble --base {corrupt} --model {model} --alpha 0.5 --output {new}", "corrupt"),
    "ensemble alpha": ("ensemble --base {model} --model {model} --alpha 2 --output {new}", "alpha"),
    "ensemble both": ("ensemble --base {model} --alpha 0.5 --sweep {texts} --output {new}", "--sweep"),
    "ensemble occupied": ("ensemble --base {model} --alpha 0.5 --output {photos}", "photos"),
    "ensemble nowhere": ("ensemble --base {model} --model {model} --sweep {nowhere} --output {new}", "nowhere"),
    "export occupied": ("export --model {model} --format open_clip --output {photos}", "photos"),
    "export text": ("export --model {model} --format open_clip --text_only true --output {new}", "huggingface or onnx"),
    "export format": ("export --model {model} --format tflite --output {new}", "onnx"),
    "export half": ("export --model {model} --format open_clip --half true --output {new}", "--half"),
    "export axis": ("export --model {model} --format onnx --axis nothing --output {new}", 'no attribute "nothing"'),
    "export axis of texts": (
        "export --model {model} --format onnx --text_only true --axis size --output {new}",
        "--axis.*image tower",
    ),
    "report corrupt": ("report {texts} --output {new}.html", "texts.jsonl"),
    "report occupied": ("report {empty} --output {page}", "page.html.*--overwrite"),
    "report empty": ("report {empty} --output {new}.html", "empty"),
    "generate pipeline": (f"{GENERATE} --model {{model}} --output {{new}}.png", "empty"),
    "demo base": ("demo {photos} --model {model} --base {corrupt}", "corrupt"),
    "demo port": ("demo {photos} --model {nowhere} --port 70000", "70000"),
    "demo host": ("demo {photos} --model {nowhere} --host 192.0.2.1", "192.0.2.1"),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, saved: Path) -> dict[str, Path]:
    """Everything that can be wrong with a path."""
    root = tmp_path_factory.mktemp("places")
    adapters = ("corrupt_adapter", "no_adapter", "lost_adapter")
    for folder in ("empty", "broken", "corrupt", "hf", *adapters):
        (root / folder).mkdir()
    for number in range(2):
        (root / "broken" / f"{number}.png").write_bytes(b"no picture")
    (root / "bad.tar").write_bytes(b"no tar" * 500)
    (root / "latin.txt").write_bytes("bär.png".encode("latin-1"))
    (root / "file").write_text("a file")
    (root / "page.html").write_text("a page")
    (root / "hf" / "config.json").write_text('{"model_type": "clip"}')
    (root / "texts.jsonl").write_text(json.dumps({"first": "a", "second": "owl", "text": "x"}) + "\n")
    (root / "corrupt" / "open_clip_config.json").write_text((saved / "open_clip_config.json").read_text())
    (root / "corrupt" / "open_clip_model.safetensors").write_bytes(b"no weights")
    for folder, base in zip(adapters, (str(saved), 1, None), strict=True):
        config = {"base_model_name_or_path": base, "r": 1, "lora_alpha": 1}
        (root / folder / "adapter_config.json").write_text("[" if base == 1 else json.dumps(config))
        (root / folder / "adapter_model.safetensors").write_bytes(b"no weights")
    save_clip(make_clip(root, "resnet"), root / "other")
    state = {f"model.{key}": value for key, value in make_clip(root, "resnet").state_dict().items()}
    config = json.loads((saved / "open_clip_config.json").read_text())["model_cfg"]
    settings = {"clip": {"name": "tiny", "config": config, "preprocess": None}, "head": "identity"}
    torch.save({"state_dict": state, "pcclip_model": settings}, root / "other.ckpt")
    torch.save({"state_dict": state}, root / "foreign.ckpt")
    torch.save({"state_dict": state, "callbacks": Path("an object")}, root / "pickled.ckpt")
    (root / "bad.ckpt").write_bytes(b"no checkpoint")
    names = ("empty", "broken", "corrupt", "file", "hf", "other", "nowhere", "new", *adapters)
    found = {name: root / name for name in names}
    return found | {
        "tar": root / "bad.tar",
        "latin": root / "latin.txt",
        "texts": root / "texts.jsonl",
        "page": root / "page.html",
        "model": saved,
        "corrupt_ckpt": root / "bad.ckpt",
        "pickled": root / "pickled.ckpt",
        "other_ckpt": root / "other.ckpt",
        "foreign_ckpt": root / "foreign.ckpt",
    }


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_nothing_written(
    case: str, places: dict[str, Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    command, named = CASES[case]
    words = [word.format(photos=photos, picture=photos / "00.png", **places) for word in command.split(" ")]
    if (package := NEEDS.get(words[0])) and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    monkeypatch.chdir(tmp_path)
    before = everything(tmp_path, *places.values())
    assert main(words) == 2
    said = capsys.readouterr()
    (error,) = [line for line in said.err.splitlines() if "error: " in line]
    assert error.startswith(f"pcclip {words[0]}: error: ")
    assert re.search(named, error), error
    assert "Traceback" not in said.err
    assert everything(tmp_path, *places.values()) == before


def everything(*roots: Path) -> set[tuple[Path, int]]:
    """All files below some folders with their sizes, but for the embeddings' store, which is meant to stay."""
    files = {file for root in roots for file in [root, *root.rglob("*")] if file.is_file()}
    return {(file, file.stat().st_size) for file in files if "xdg" not in file.parts}


def test_every_command_is_covered() -> None:
    assert {case.split(" ")[0] for case in CASES} == set(TOOLS)
