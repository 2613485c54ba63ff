"""The API reference names what people import or configure; `make docs` builds it."""

import importlib
import re
from pathlib import Path

import yaml

from data_prep.cli import STEPS

ROOT = Path(__file__).parents[1]


def test_reference_is_complete() -> None:
    pages = {file: file.read_text(encoding="utf-8") for file in (ROOT / "docs").rglob("*.md")}
    named = {name for text in pages.values() for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)}
    wanted = {place.partition(":")[0] for place, _ in STEPS.values()}
    for package in ("pcclip.callbacks", "pcclip.model"):
        module = importlib.import_module(package)
        wanted |= {getattr(module, name).__module__ for name in module.__all__}
    classes = {
        name
        for file in (ROOT / "conf").rglob("*.yaml")
        for name in re.findall(r"pcclip[\w.]+\.[A-Z]\w+", file.read_text())
    }
    for name in classes:
        module_name, _, attribute = name.rpartition(".")
        wanted.add(getattr(importlib.import_module(module_name), attribute).__module__)
    assert not wanted - named
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    for file in pages:
        assert str(file.relative_to(ROOT / "docs")) in str(navigation), f"{file} is not in the navigation of mkdocs.yml"
