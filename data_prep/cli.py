"""The `pcclip-data` command: `pcclip-data STEP --config FILE [section.key=value ...]`."""

from __future__ import annotations

import argparse
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
        epilog="Example: pcclip-data all --config conf/data/demo.yaml root=data/other shapes.seed=1",
    )
    parser.add_argument("target", metavar="STEP", help=f"`all`, a section of the config, or a step: {', '.join(STEPS)}")
    parser.add_argument(
        "--config", type=Path, required=True, help="YAML with a section per step, e.g. conf/data/demo.yaml"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="section.key=value or variable=value, wins over the file"
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after an error that the user can mend."""
    options = build_parser().parse_intermixed_args(arguments)
    try:
        for section in load_sections(options.config, options.target, options.overrides):
            started = time.perf_counter()
            print(f"[{section.name}]", flush=True)
            step_module(section.step).run(section.options)
            print(f"[{section.name}] {time.perf_counter() - started:.1f} s", flush=True)
    except (ValueError, OSError) as error:
        print(f"pcclip-data: error: {error}", file=sys.stderr)
        return 2
    return 0
