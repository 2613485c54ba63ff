"""The reference names what people import, configure and type; `make docs` builds it."""

import importlib
import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from data_prep.chain import step_class
from data_prep.cli import STEPS
from pcclip.cli import TOOLS, TRAINING
from pcclip.commands.command import command_class
from pcclip.data.datamodule import PairDataModule
from pcclip.model.lora import Lora
from pcclip.model.module import LitDifferenceCLIP

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


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The hook of mkdocs that makes the pages of commands and settings."""
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/scripts/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_and_option_is_in_the_reference(reference: ModuleType) -> None:
    page = reference.command_line()
    for name in [*TRAINING, *TOOLS]:
        assert f"pcclip {name}" in page
    targets = {step_class(name): () for name in STEPS} | {
        command_class(name): (*command_class(name).positional, *command_class(name).several) for name in TOOLS
    }
    for target, positional in targets.items():
        for option in reference.options(target, positional):
            assert f"| `{option.name}` |" in page
            assert option.meaning, f"{target.__name__}.{option.name} has no docstring"


def test_every_setting_is_in_the_reference(reference: ModuleType) -> None:
    page = reference.configuration()
    for kind in (LitDifferenceCLIP, Lora, PairDataModule):
        for name in inspect.signature(kind).parameters:
            assert f"| `{name}` |" in page
        assert all(option.meaning for option in reference.options(kind))
