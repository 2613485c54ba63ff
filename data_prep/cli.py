"""The `pcclip-data` command: `pcclip-data STEP --config FILE [--option value ...] [section.key=value ...]`."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data_prep.config import STEPS, load_sections, step_module


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="pcclip-data",
        description="Prepare training data. Each step reads and writes files; it does nothing when its output is up to date.",
        epilog="Examples: pcclip-data all --config conf/data/demo.yaml root=data/other shapes.seed=1; "
        "pcclip-data show --shards data/demo/shards/val --output pairs.html",
    )
    parser.add_argument("target", metavar="STEP", help=f"`all`, a section of the config, or a step: {', '.join(STEPS)}")
    parser.add_argument(
        "--config", type=Path, help="YAML with a section per step, e.g. conf/data/demo.yaml; not needed for one step"
    )
    parser.add_argument(
        "--OPTION", metavar="VALUE", help="any option of the step; without a value it is switched on, e.g. --dry-run"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="section.key=value or variable=value, wins over the file"
    )
    return parser


def split_flags(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Take the step's options out of the arguments: `--limit 10`, `--limit=10`, or `--dry-run` for true."""
    rest: list[str] = []
    flags: dict[str, str] = {}
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith("--") or argument.split("=")[0] in ("--config", "--help"):
            rest.append(argument)
            if argument == "--config" and waiting:
                rest.append(waiting.pop(0))
            continue
        key, given, value = argument[2:].partition("=")
        if not given:
            is_value = waiting and not waiting[0].startswith("--") and not re.match(r"[\w.]+=", waiting[0])
            value = waiting.pop(0) if is_value else "true"
        flags[key.replace("-", "_")] = value
    return rest, flags


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after an error that the user can fix."""
    rest, flags = split_flags(sys.argv[1:] if arguments is None else arguments)
    options = build_parser().parse_intermixed_args(rest)
    try:
        for section in load_sections(options.config, options.target, options.overrides, flags):
            started = time.perf_counter()
            print(f"[{section.name}]", flush=True)
            step_module(section.step).run(section.options)
            print(f"[{section.name}] {time.perf_counter() - started:.1f} s", flush=True)
    except (ValueError, OSError) as error:
        print(f"pcclip-data: error: {error}", file=sys.stderr)
        return 2
    return 0
