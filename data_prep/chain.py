"""Parse the command line: one step with its options, or a chain of steps from YAML files."""

import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data_prep.cli import STEPS
from data_prep.step import Step
from pcclip import command_line

KNOWN = ", ".join(STEPS)
PYDANTIC_DETAILS = re.compile(r" \[type=.*? For further information visit \S+")
UNSET = "???"  # value of a variable that must be given on the command line


def step_class(name: str) -> type[Step]:
    """Import the class of a step."""
    module, _, attribute = STEPS[name][0].partition(":")
    return cast("type[Step]", getattr(importlib.import_module(module), attribute))


def parse_steps(words: Sequence[str]) -> dict[str, Step]:
    """Parse a command line: a step, a section or `all`, then `--config` and options.

    Returns:
        The steps to run by name, in order.

    Raises:
        FileNotFoundError: A config file is missing.
        ValueError: An unknown step, section or option, or a missing or invalid value.
    """
    target, *rest = words
    files, flags = _config_files(rest)
    if files:
        return _parse_chain(target, files, flags)
    if target not in STEPS:
        raise ValueError(f"{target!r} needs --config FILE; without one, name a step: {KNOWN}")
    step = step_class(target)
    parser = _parser(target)
    parser.description = step.__doc__
    parser.add_class_arguments(step, None, as_group=False)
    options = _parsed(parser, flags, f"pcclip-data {target}")
    return {target: step(**vars(options))}


def _config_files(words: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Split words into the files given as `--config FILE` and all other words."""
    files: list[Path] = []
    rest: list[str] = []
    waiting = iter(words)
    for word in waiting:
        option, given, value = word.partition("=")
        if option == "--config":
            files.append(Path(value if given else next(waiting, "")))
        else:
            rest.append(word)
    return files, rest


def _parser(target: str) -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    return ArgumentParser(prog=f"pcclip-data {target}", parser_mode="omegaconf+", exit_on_error=False)


def _parsed(parser: ArgumentParser, words: Sequence[str], where: str) -> Namespace:
    try:
        return parser.instantiate(command_line.parse(parser, words))
    except ValueError as error:
        message = PYDANTIC_DETAILS.sub(".", " ".join(str(error).split()))
        raise ValueError(f"{where}: {message}") from error


def _parse_chain(target: str, files: Sequence[Path], flags: Sequence[str]) -> dict[str, Step]:
    """Parse the sections of a chain that `target` names.

    Each mapping in the files is a section: the options of one step. The key `step` names the step; by default the section's
    name does, as `shard` and `val_shard` do. In the options of a section, `${split}` is its name without the step, such as
    `val`. Special keys: `defaults` has options for all sections of a step, by step. `steps` lists the sections that `all` runs;
    by default these are all sections, in order. Other values are variables. Later files override earlier ones.
    """
    where = ", ".join(map(str, files))
    chain = _load(files)
    defaults, listed = chain.pop("defaults", {}), chain.pop("steps", None)
    sections: dict[str, dict[str, Any]] = {key: value for key, value in chain.items() if isinstance(value, dict)}
    step_of = {name: str(section.pop("step", _step_in(name))) for name, section in sections.items()}
    for name, step in step_of.items():
        if step not in STEPS:
            raise ValueError(f"{where}: section `{name}`: {step!r} is not a step; set `step:` to one of {KNOWN}")
    if target == "all":
        chosen = list(sections) if listed is None else listed
    else:
        chosen = [target] if target in sections else [name for name, step in step_of.items() if step == target]
    if not chosen or not set(chosen) <= sections.keys():
        missing = next((name for name in chosen if name not in sections), target)
        raise ValueError(f"{where}: no section {missing!r}; the sections are {', '.join(sections)}")
    parser = _parser(target)
    parser.add_argument("--config", action="config", help="File with the chain. Later files override earlier ones.")
    given = {key: value for key, value in chain.items() if key not in sections}
    for key, value in given.items():
        parser.add_argument(f"--{key}", type=Any, required=value == UNSET, help="A variable of the chain.")
    content = {key: value for key, value in given.items() if value != UNSET}
    for name in chosen:
        parser.add_class_arguments(step_class(step_of[name]), name)
        content[name] = {**defaults.get(step_of[name], {}), **sections[name]}
        if name != step_of[name]:
            content[name] = _with_split(content[name], name.removesuffix(f"_{step_of[name]}"))
    options = _parsed(parser, ["--config", json.dumps(content), *flags], where)
    return {name: options[name] for name in chosen}


def _step_in(section: str) -> str:
    """Return the longest step at the end of a section's name, or the whole name."""
    return max((step for step in STEPS if f"_{section}".endswith(f"_{step}")), key=len, default=section)


def _with_split(section: dict[str, Any], split: str) -> dict[str, Any]:
    """Replace `${split}` in all options of a section."""
    return cast("dict[str, Any]", json.loads(json.dumps(section).replace("${split}", split)))


def _load(files: Sequence[Path]) -> dict[str, Any]:
    """Merge YAML files without resolving interpolations."""
    merged: Any = OmegaConf.create({})
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"{file}: config file not found; see conf/data/ for examples")
        try:
            merged = OmegaConf.merge(merged, OmegaConf.load(file))
        except (yaml.YAMLError, OmegaConfBaseException, TypeError, UnicodeDecodeError) as error:
            raise ValueError(f"{file}: not a valid config: {' '.join(str(error).split())}") from error
    if not isinstance(merged, DictConfig):
        raise ValueError(f"{files[-1]}: expected a mapping of sections, found a list")
    return cast("dict[str, Any]", OmegaConf.to_container(merged))
