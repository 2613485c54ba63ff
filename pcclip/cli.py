"""The `pcclip` command. `fit`, `validate`, `test` and `predict` are a LightningCLI, the others are tools.

Heavy modules are imported by the commands that need them, so that `pcclip --help` is fast.
"""

import sys
from collections.abc import Sequence

from pcclip import __version__

TRAINING = {
    "fit": "train with a configuration",
    "validate": "compute the losses on held-out pairs",
    "test": "evaluate a checkpoint on the tasks of a configuration",
    "predict": "write the cosine of each held-out pair's difference with its text",
}
TOOLS = {
    "rank": "order pictures along an axis given in words",
    "classify": "classify pictures by thresholds on axes given in words",
    "compare": "say which of two pictures has more of something",
    "search": "find pictures that differ from a given one as a text says",
    "prompt": "classify pictures with texts on how the classes differ",
    "ensemble": "blend a base and a finetuned model, or evaluate several blends",
    "export": "save for open_clip or Hugging Face, with a model card",
    "generate": "generate images from a prompt plus a difference text (extra `generation`)",
    "report": "write one HTML page on the results of runs",
    "demo": "serve a page to try a model on pictures (extra `demo`)",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; by default `sys.argv`.

    Returns:
        The exit code: 0; 2 after an error that the user can fix; 130 after Ctrl-C. Training exits itself after signals.
    """
    name, *words = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if name in TRAINING:
        from pcclip.command_line import run
        from pcclip.training_cli import train

        return run(f"pcclip {name}", lambda: train(name, words))
    if name in TOOLS:
        from pcclip.command_line import run
        from pcclip.commands.command import run_tool

        return run(f"pcclip {name}", lambda: run_tool(name, words))
    if name == "--version":
        print(f"pcclip {__version__}")
    elif name in ("-h", "--help"):
        print(_overview())
    else:
        print(f"pcclip: error: no command {name!r} (see pcclip --help)", file=sys.stderr)
        return 2
    return 0


def _overview() -> str:
    commands = "\n".join(f"  {name:<10}{purpose}" for name, purpose in (TRAINING | TOOLS).items())
    return (
        "usage: pcclip COMMAND [options]\n\nTrain CLIP on pairwise differences, and use what was trained.\n\n"
        f"commands (pcclip COMMAND --help lists the options):\n{commands}\n\n"
        "Options may also be set in a YAML file: --config FILE. --print_config prints one."
    )


if __name__ == "__main__":
    sys.exit(main())
