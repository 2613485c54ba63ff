"""The `pcclip-data` command. Slow imports happen only after the arguments are known."""

import sys
import time
from collections.abc import Sequence

# Module, class and summary of each step.
STEPS = {
    "download": ("data_prep.steps.download:Download", "download and unpack a public data set"),
    "captions": ("data_prep.steps.captions:Captions", "read a captioned image set into captions.jsonl"),
    "pairs": ("data_prep.steps.pairs:Pairs", "divide images into groups and draw pairs within each group"),
    "describe": ("data_prep.steps.describe:Describe", "write how the two images of each pair differ"),
    "rewrite": ("data_prep.steps.rewrite:Rewrite", "rewrite captions in other words, as a control"),
    "confused_pairs": ("data_prep.steps.confused_pairs:ConfusedPairs", "choose pairs of classes that a model confuses"),
    "class_texts": ("data_prep.steps.class_texts:ClassTexts", "write sentences about classes from their names"),
    "screen": ("data_prep.steps.screen:Screen", "clean and filter difference texts"),
    "opinion": ("data_prep.steps.opinion:Opinion", "have a language model judge a sample of difference texts"),
    "transfer": ("data_prep.steps.transfer:Transfer", "reuse texts about classes for other images of these classes"),
    "shard": ("data_prep.steps.shard:Shard", "pack images and texts into shards for training"),
    "embed": ("data_prep.steps.embed:Embed", "replace images in shards by embeddings of a frozen tower"),
    "verify": ("data_prep.steps.verify:Verify", "check shards and print statistics"),
    "show": ("data_prep.steps.show:Show", "write an HTML page of sample pairs"),
    "publish": ("data_prep.steps.publish:Publish", "upload shards to the Hugging Face Hub, with a dataset card"),
    "shapes": ("data_prep.world.shapes:Shapes", "make the embedded world: images, captions, test sentences"),
    "shapes_eval": ("data_prep.world.shapes:ShapesEval", "make the files for evaluations in the embedded world"),
}
USAGE = """Prepare training data. Each step reads and writes files. It does nothing if its output is up to date.

pcclip-data STEP --OPTION VALUE ...                        one step
pcclip-data STEP --help                                    its options
pcclip-data all --config FILE [--VARIABLE VALUE] [--SECTION.OPTION VALUE] ...
                                                           all steps of a config file, e.g. conf/data/demo.yaml
pcclip-data SECTION|STEP --config FILE ...                 one section of the file, or all sections of one step

steps:
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, as `pcclip.command_line.run` does."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE + "\n".join(f"  {name:<12} {summary}" for name, (_, summary) in STEPS.items()))
        return 0
    from pcclip import command_line

    return command_line.run("pcclip-data", lambda: _run(words))


def _run(words: Sequence[str]) -> None:
    from data_prep.chain import parse_steps
    from pcclip.console import done, quiet_lightning

    quiet_lightning()
    steps = parse_steps(words)
    if len(steps) > 1:
        print(f"{len(steps)} steps: {', '.join(steps)}", flush=True)
    for name, step in steps.items():
        started = time.perf_counter()
        step.run()
        done(name, time.perf_counter() - started)
