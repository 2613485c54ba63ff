"""Settings of the steps: one YAML per dataset, with a section per step, merged with command-line overrides.

A section's options are checked against the step's `Options` dataclass by OmegaConf. A section may be named freely when it
says which step it runs (`step: pairs`); without that key its name is the step. Top-level scalars are variables for
interpolation, e.g. `root: data/demo` and `output: ${root}/pairs.jsonl`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

# Modules are imported when their step runs: `embed` needs torch, the others start fast without it.
STEPS = {
    "shapes": "data_prep.shapes",
    "shapes_eval": "data_prep.shapes_eval",
    "download": "data_prep.download",
    "captions": "data_prep.captions",
    "pairs": "data_prep.pairs",
    "describe": "data_prep.describe",
    "rewrite": "data_prep.rewrite",
    "class_texts": "data_prep.class_texts",
    "screen": "data_prep.screen",
    "transfer": "data_prep.transfer",
    "shard": "data_prep.shard",
    "embed": "data_prep.embed",
    "verify": "data_prep.verify",
    "show": "data_prep.show",
}


class StepModule(Protocol):
    """What the module of a step offers."""

    Options: type[Any]

    def run(self, options: Any) -> None:
        """Do the step, or say that it is already done."""
        ...


@dataclass(frozen=True)
class Section:
    """One section of a config: its name, its step, and that step's options."""

    name: str
    step: str
    options: Any


def step_module(step: str) -> StepModule:
    """Import the module of a step."""
    return cast(StepModule, importlib.import_module(STEPS[step]))


def load_sections(
    file: Path | None, target: str, overrides: Sequence[str] = (), flags: Mapping[str, str] | None = None
) -> list[Section]:
    """Read a config and return the sections to run, in order, with checked options.

    Args:
        file: The YAML file; without one, `target` is a step whose options are all in `flags`.
        target: `all` (what the file's `steps` lists), a section's name, or a step (all of its sections).
        overrides: `section.key=value` or `variable=value`, which win over the file.
        flags: Options of the sections that `target` names, which win over all.

    Raises:
        FileNotFoundError: The file is missing.
        ValueError: Bad YAML, an unknown section, step or key, a missing or ill-typed value.
    """
    if file is None and target not in STEPS:
        raise ValueError(f"command line: {target!r} needs --config FILE; without one, name a step: {', '.join(STEPS)}")
    where = file or Path("command line")
    config = _load(file, target, overrides)
    names = _section_names(where, config)
    chosen = _chosen(where, config, names, target)
    if flags:
        if target == "all":
            raise ValueError(f"command line: --{next(iter(flags))}: name its section instead, as section.key=value")
        overrides = [*overrides, *(f"{name}.{key}={value}" for name in chosen for key, value in flags.items())]
        config = _load(file, target, overrides)
    return [_section(where, config, name, overrides) for name in chosen]


def _load(file: Path | None, target: str, overrides: Sequence[str]) -> DictConfig:
    where = file or Path("command line")
    if file is not None and not file.is_file():
        raise FileNotFoundError(f"{file}: config file not found; see conf/data/ for examples")
    try:
        config = OmegaConf.create({target: {}}) if file is None else OmegaConf.load(file)
        if not isinstance(config, DictConfig):
            raise ValueError(f"{where}: expected a mapping of sections, found a list")
        _check_overrides(where, cast(dict[str, Any], OmegaConf.to_container(config)), overrides)
        merged = OmegaConf.merge(config, OmegaConf.from_dotlist(list(overrides)))
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ValueError(f"{where}: not a valid config ({error})") from error
    for name, value in cast(dict[str, Any], OmegaConf.to_container(merged)).items():
        if value == "???":
            raise ValueError(
                f"{where}: variable `{name}` is not set; give it on the command line as {name}=... or in the file"
            )
    return cast(DictConfig, merged)


def _check_overrides(file: Path, config: dict[str, Any], overrides: Sequence[str]) -> None:
    for override in overrides:
        if "=" not in override or override.startswith(("=", "-")):
            raise ValueError(
                f"command line: {override!r} is not an override; write section.key=value or variable=value"
            )
        key = override.split("=", 1)[0]
        top = key.split(".", 1)[0]
        if top not in config or ("." in key) != isinstance(config[top], dict):
            known = ", ".join(f"{name}.KEY" if isinstance(value, dict) else name for name, value in config.items())
            raise ValueError(f"command line: {key!r} is no key of {file}, which has {known}")


def _section_names(file: Path, config: DictConfig) -> list[str]:
    """Names of all sections, each checked to name a step."""
    raw = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    names = [name for name, value in raw.items() if isinstance(value, dict)]
    for name in names:
        step = raw[name].get("step", name)
        if step not in STEPS:
            raise ValueError(
                f"{file}: section `{name}` runs no known step ({step!r}); set `step:` to one of {', '.join(STEPS)}"
            )
    listed = raw.get("steps", [])
    if not isinstance(listed, list):
        raise ValueError(f"{file}: `steps` must be a list of section names, found {listed!r}")
    for name in listed:
        if name not in names:
            raise ValueError(f"{file}: `steps` lists {name!r}, but the sections are {', '.join(names)}")
    return names


def _chosen(file: Path, config: DictConfig, names: list[str], target: str) -> list[str]:
    if target == "all":
        if not config.get("steps"):
            raise ValueError(f"{file}: `all` needs a list `steps:` of the sections to run, in order")
        return [str(name) for name in config["steps"]]
    if target in names:
        return [target]
    chosen = [name for name in names if config[name].get("step", name) == target]
    if not chosen:
        known = "steps are" if target not in STEPS else "sections are"
        listed = ", ".join(STEPS if target not in STEPS else names)
        raise ValueError(f"{file}: no section for {target!r}; {known} {listed}")
    return chosen


def _section(file: Path, config: DictConfig, name: str, overrides: Sequence[str]) -> Section:
    try:
        raw = cast(dict[str, Any], OmegaConf.to_container(config[name], resolve=True))
    except OmegaConfBaseException as error:
        raise ValueError(f"{file}: section `{name}`: {error}") from error
    step = str(raw.pop("step", name))
    options = step_module(step).Options
    known = [option.name for option in fields(options)]
    for key in raw:
        if key not in known:
            given = any(override.startswith((f"{name}.{key}=", f"{name}.{key}.")) for override in overrides)
            origin = "command line" if given else str(file)
            raise ValueError(f"{origin}: unknown key `{name}.{key}`; step `{step}` takes {', '.join(known)}")
    try:
        checked = OmegaConf.merge(OmegaConf.structured(options), raw)
        missing = sorted(OmegaConf.missing_keys(checked))
        if missing:
            raise ValueError(
                f"{file}: `{name}.{missing[0]}` is not set; give it in the file or as {name}.{missing[0]}=..."
            )
        return Section(name, step, OmegaConf.to_object(checked))
    except OmegaConfBaseException as error:
        key = f"{name}.{error.full_key}" if error.full_key else name
        raise ValueError(f"{file}: `{key}`: {str(error.msg or error).splitlines()[0]}") from error
