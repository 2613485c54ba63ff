"""Reference pages made from the code. `mkdocs.yml` names this file as a hook, so the site always has the present options."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import docstring_parser
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import pcclip.callbacks
import pcclip.tasks
from data_prep.chain import step_class
from data_prep.cli import STEPS
from pcclip.cli import TOOLS, TRAINING
from pcclip.commands.command import command_class
from pcclip.data.datamodule import PairDataModule
from pcclip.experiments.__main__ import SCRIPTS
from pcclip.model import Exponential, WarmupCosine
from pcclip.model.loading import ClipSource
from pcclip.model.lora import Lora
from pcclip.model.module import LitDifferenceCLIP

NOT_CONFIGURED = {"DataMonitor", "Predictions", "RunConfig", "CheckMonitors"}  # callbacks that `pcclip` adds by itself
TRAINER = "https://lightning.ai/docs/pytorch/stable/common/trainer.html"
LINE_OF = re.compile(r"\s*\n\s*")


class Option(NamedTuple):
    """A row of a table of options."""

    name: str
    type: str
    default: str
    meaning: str


def options(target: Callable[..., Any], skip: Sequence[str] = ()) -> list[Option]:
    """List the parameters of a function or class, with what its docstrings say of them."""
    meanings = _meanings(target)
    return [
        Option(name, _type(each.annotation), _default(target, each), meanings.get(name, ""))
        for name, each in inspect.signature(target).parameters.items()
        if name not in skip
    ]


def command_line() -> str:
    """Return the page of all commands."""
    lines = [
        "# Command line",
        "",
        "Made from the code. `pcclip COMMAND --help` and `pcclip-data STEP --help` print the same.",
        "Any option may also stand in a YAML file (`--config FILE`), and `--print_config` prints one.",
        "",
        "## pcclip: training",
        "",
        "Settings of these commands are on [Configuration keys](configuration.md).",
        "",
        "| command | does |",
        "|---|---|",
        *(f"| `pcclip {name}` | {purpose} |" for name, purpose in TRAINING.items()),
        "",
        "## pcclip: using a model",
    ]
    for name in TOOLS:
        command = command_class(name)
        places = "".join(f" {each.upper()} ..." for each in command.positional)
        rows = [Option(each, "list", "required", meaning) for each, meaning in command.positional.items()]
        rows += [Option(each, "list", "[]", meaning) for each, meaning in command.several.items()]
        rows += options(command, [*command.positional, *command.several])
        lines += _section(f"pcclip {name}", f"pcclip {name}{places} --OPTION VALUE ...", _summary(command), rows)
    lines += [
        "",
        "## pcclip-data",
        "",
        "Preparation of training data, step by step; [Prepare data](../guides/data.md) explains the chain.",
    ]
    for name in STEPS:
        step = step_class(name)
        lines += _section(
            f"pcclip-data {name}", f"pcclip-data {name} --OPTION VALUE ...", _summary(step), options(step)
        )
    lines += ["", "## Experiments", "", "Scripts over several runs."]
    for name, function in SCRIPTS.items():
        usage = f"python -m pcclip.experiments {name} ..."
        lines += _section(name, usage, _summary(function), options(function))
    return "\n".join(lines) + "\n"


def configuration() -> str:
    """Return the page of the settings of training and evaluation."""
    lines = [
        "# Configuration keys",
        "",
        "Made from the code. What a file for `pcclip fit`, `validate`, `test` and `predict` may hold. On the command line,",
        "a key is `--model.head linear`. Any value may refer to another one as `${run}` or `${model.head}`.",
        "",
        "| key | meaning |",
        "|---|---|",
        "| `seed_everything` | seed of weights and data |",
        "| `run` | folder of the run's outputs; other settings can use it as `${run}` |",
        "| `set` | name of a dataset; files of `conf/eval` use it as `${set}` |",
        "| `tasks` | evaluation tasks; files of `conf/eval` use them as `${tasks}` |",
        "| `float32_matmul_precision` | `highest`, `high` or `medium`, as `torch.set_float32_matmul_precision` |",
        "| `resume` | resume from the last checkpoint of the run, or start if there is none |",
        "| `overwrite` | replace models, tables, predictions and run folders that other runs left |",
        "| `ckpt_path` | checkpoint to resume from or to evaluate |",
        f"| `trainer` | [Lightning's Trainer]({TRAINER}), with the callbacks below |",
        "| `model`, `data` | below |",
    ]
    parts: list[tuple[str, str, type]] = [
        ("model", "`model.KEY`", LitDifferenceCLIP),
        ("model.clip", "`model.clip.KEY`", ClipSource),
        ("model.lora", "`model.lora.KEY`", Lora),
        ("data", "`data.KEY`", PairDataModule),
    ]
    for title, prefix, kind in parts:
        lines += ["", f"## {title}", "", f"{prefix}: {_summary(kind)}", "", *_table(options(kind))]
    groups = {
        "Schedules": ("`model.schedule`", [WarmupCosine, Exponential]),
        "Callbacks": ("`trainer.callbacks`", list(_exported(pcclip.callbacks, NOT_CONFIGURED))),
        "Tasks": ("`tasks` of `pcclip.callbacks.Evaluation`", list(_exported(pcclip.tasks, {"Task", "Evaluator"}))),
    }
    for title, (place, kinds) in groups.items():
        lines += ["", f"## {title}", "", f"Entries of {place}, by `class_path` and `init_args`."]
        for kind in kinds:
            path = f"{kind.__module__.rpartition('.')[0]}.{kind.__name__}"
            lines += _section(kind.__name__, f"class_path: {path}", _summary(kind), options(kind, ["kwargs"]), "yaml")
    return "\n".join(lines) + "\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to the site (a hook of mkdocs)."""
    for name, text in (("cli", command_line()), ("configuration", configuration())):
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def _section(title: str, usage: str, summary: str, rows: Sequence[Option], language: str = "text") -> list[str]:
    return ["", f"### {title}", "", summary, "", f"```{language}", usage, "```", "", *_table(rows)]


def _table(rows: Sequence[Option]) -> list[str]:
    if not rows:
        return []
    lines = ["| option | type | default | meaning |", "|---|---|---|---|"]
    for row in rows:
        cells = (
            f"`{row.name}`",
            f"`{row.type}`" if row.type else "",
            f"`{row.default}`" if row.default else "",
            row.meaning,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _exported(module: Any, skip: set[str]) -> Iterator[type]:
    for name in module.__all__:
        if inspect.isclass(getattr(module, name)) and name not in skip:
            yield getattr(module, name)


def _summary(target: Callable[..., Any]) -> str:
    text = (inspect.getdoc(target) or "").split("\n\n")[0]
    return LINE_OF.sub(" ", text)


def _meanings(target: Callable[..., Any]) -> dict[str, str]:
    """Collect what docstrings say of parameters: sections `Args`, and string literals under fields."""
    found: dict[str, str] = {}
    kinds = inspect.getmro(target) if inspect.isclass(target) else (target,)
    for kind in reversed(kinds):
        if kind.__module__ == "builtins":
            continue
        for docstring in (docstring_parser.parse_from_object(kind), docstring_parser.parse(_init_doc(kind))):
            found |= {each.arg_name: LINE_OF.sub(" ", each.description or "") for each in docstring.params}
    return found


def _init_doc(kind: Callable[..., Any]) -> str:
    return inspect.getdoc(kind.__init__) or "" if inspect.isclass(kind) and "__init__" in vars(kind) else ""  # type: ignore[misc]


def _type(annotation: Any) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return re.sub(r"(?<![\w'])(?:[a-zA-Z_]\w*\.)+(?=[A-Z_a-z])", "", text)


def _default(target: Callable[..., Any], parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "required"
    default = parameter.default
    if dataclasses.is_dataclass(target):
        factory = {each.name: each.default_factory for each in dataclasses.fields(target)}[parameter.name]
        if factory is not dataclasses.MISSING:
            return str(factory()) if factory in (list, dict, tuple) else ""  # others depend on the machine
    if inspect.isclass(default):
        return default.__name__
    if default is None or isinstance(default, bool):
        return "null" if default is None else str(default).lower()
    return str(default)
