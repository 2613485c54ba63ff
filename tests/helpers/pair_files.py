"""Made-up pairs and captions for tests that ask a language model."""

import json
from pathlib import Path
from typing import Any

from data_prep.steps import describe
from tests.helpers.fault_server import FaultServer


def write_pairs(folder: Path, count: int) -> None:
    """`captions.jsonl` of count + 1 images, whose captions say which image it is, and `pairs.jsonl` of neighbours."""
    with (folder / "captions.jsonl").open("w") as stream:
        for i in range(count + 1):
            captions = [f"Picture <{i}> of a cat.", f"Cat {i} again."]
            stream.write(json.dumps({"id": f"i{i}", "file": f"{i}.jpg", "captions": captions}) + "\n")
    with (folder / "pairs.jsonl").open("w") as stream:
        for i in range(count):
            pair = {"pair_id": f"p{i}", "group": "g", "first": f"i{i}", "second": f"i{i + 1}"}
            stream.write(json.dumps(pair) + "\n")


def model_options(folder: Path, server: FaultServer, **options: Any) -> describe.Describe:
    """Options that describe these pairs with a server's model."""
    files = {"pairs": "pairs.jsonl", "captions": "captions.jsonl", "output": "differences.jsonl"}
    paths = {option: str(folder / name) for option, name in files.items()}
    return describe.Describe(**{**paths, "backend": "openai", "base_url": server.url, "model": "m", **options})


def pair_of(question: str) -> str:
    """Id of the pair that a question is about."""
    return "p" + question.split("<")[1].split(">")[0]
