"""The layers of the packages: who may import whom, and that no modules import each other in a circle."""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from pcclip.cli import TOOLS

ROOT = Path(__file__).parents[1]
TOP = ["pcclip.tools", "pcclip.commands", "pcclip.experiments"]
ABOVE = ["pcclip.tasks", "pcclip.callbacks", "pcclip.reports", *TOP]
# Package to what it must not import, also not within a function.
FORBIDDEN = {
    "pcclip": ["data_prep"],
    "pcclip.metrics": ["pcclip.model", "pcclip.data", "pcclip.datasets", *ABOVE],
    "pcclip.model": ["pcclip.data", "pcclip.datasets", "pcclip.metrics", *ABOVE],
    "pcclip.data": ["pcclip.datasets", "pcclip.metrics", *ABOVE],
    "pcclip.datasets": ["pcclip.model", *ABOVE],
    "pcclip.tasks": ["pcclip.callbacks", *TOP],
    "pcclip.callbacks": TOP,
    "pcclip.reports": ["pcclip.tasks", "pcclip.callbacks", *TOP],
    "data_prep": ["pcclip.callbacks", *TOP],
}
# `pcclip prompt --ask.model` has a language model write the texts.
EXCEPTIONS = {("pcclip.tools.prompt", "data_prep.steps.class_texts")}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("pcclip", "data_prep")
    for path in (ROOT / package).rglob("*.py")
}


def imports(node: ast.AST, lazy: bool) -> Iterator[str]:
    """Modules of ours that a module imports, with `lazy` also within functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (name.name for name in child.names if name.name in MODULES)
        if isinstance(child, ast.ImportFrom) and child.module:
            full = [f"{child.module}.{name.name}" for name in child.names]
            yield from (name if name in MODULES else child.module for name in full)
        if lazy or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(child, lazy)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_layers() -> None:
    broken = [
        (module, found)
        for module, path in MODULES.items()
        for found in imports(ast.parse(path.read_text(encoding="utf-8")), lazy=True)
        for package, forbidden in FORBIDDEN.items()
        if within(module, package) and any(within(found, other) for other in forbidden)
    ]
    assert set(broken) - EXCEPTIONS == set()


def test_no_cycles() -> None:
    graph = {
        module: set(imports(ast.parse(path.read_text(encoding="utf-8")), lazy=False)) & MODULES.keys() - {module}
        for module, path in MODULES.items()
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules


def test_one_module_knows_sqlite() -> None:
    users = [name for name, path in MODULES.items() if "import sqlite3" in path.read_text(encoding="utf-8")]
    assert users == ["pcclip.data.embedding_store"]


# Their modules are named by what users type: a task, command, step or source may be named like the module that does its work.
TOOL_MODULES = [f"pcclip.tools.{name}" for name in TOOLS]
NAMED_BY_USERS = ("pcclip.tasks", "pcclip.commands", "data_prep.steps", "data_prep.sources", *TOOL_MODULES)
ENTRIES = {"pcclip", "data_prep", "pcclip.cli", "data_prep.cli"}


def test_no_two_modules_of_one_name() -> None:
    names = Counter(
        module.rpartition(".")[2]
        for module in MODULES.keys() - ENTRIES
        if not within_any(module, NAMED_BY_USERS) and not module.endswith("__main__")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_two_classes_of_one_name() -> None:
    names = Counter(
        node.name
        for module, path in MODULES.items()
        if not within_any(module, NAMED_BY_USERS)
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def within_any(module: str, packages: Iterable[str]) -> bool:
    return any(within(module, package) for package in packages)
