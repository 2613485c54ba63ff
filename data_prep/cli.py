"""The `pcclip-data` command. Nothing slow is imported before it is known what is asked for."""

import sys
import time
from collections.abc import Sequence

# Name to module, class and summary.
STEPS = {
    "download": ("data_prep.steps.download:Download", "fetch and unpack a public data set"),
    "captions": ("data_prep.steps.captions:Captions", "bring a captioned image set into one captions.jsonl"),
    "pairs": ("data_prep.steps.pairs:Pairs", "deal images into groups and draw the pairs of each group"),
    "describe": ("data_prep.steps.describe:Describe", "write how the images of each pair differ"),
    "rewrite": ("data_prep.steps.rewrite:Rewrite", "write captions in other words, as a control"),
    "confused_pairs": ("data_prep.steps.confused_pairs:ConfusedPairs", "choose the classes that a model confuses"),
    "class_texts": ("data_prep.steps.class_texts:ClassTexts", "write sentences on classes from their names"),
    "screen": ("data_prep.steps.screen:Screen", "cut and reject difference texts"),
    "opinion": ("data_prep.steps.opinion:Opinion", "let a language model judge a sample of texts"),
    "transfer": ("data_prep.steps.transfer:Transfer", "give texts about classes to other pictures of these classes"),
    "shard": ("data_prep.steps.shard:Shard", "pack images and texts into shards for training"),
    "embed": ("data_prep.steps.embed:Embed", "replace images in shards by embeddings of a frozen tower"),
    "verify": ("data_prep.steps.verify:Verify", "check shards and print what they hold"),
    "show": ("data_prep.steps.show:Show", "write a page of sample pairs"),
    "shapes": ("data_prep.world.shapes:Shapes", "make the embedded world: pictures, captions, test texts"),
    "shapes_eval": ("data_prep.world.shapes:ShapesEval", "make what the embedded world's evaluations need"),
}
USAGE = """Prepare training data. Each step reads and writes files; it does nothing when its output is up to date.

pcclip-data STEP --OPTION VALUE ...                        one step
pcclip-data STEP --help                                    its options
pcclip-data all --config FILE [--VARIABLE VALUE] [--SECTION.OPTION VALUE] ...
                                                           the chain of a file, e.g. conf/data/demo.yaml
pcclip-data SECTION|STEP --config FILE ...                 one section of it, or all sections of one step

steps:
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, or 2 after an error that the user can fix."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE + "\n".join(f"  {name:<12} {summary}" for name, (_, summary) in STEPS.items()))
        return 0
    from data_prep.chain import parse_steps

    try:
        for name, step in parse_steps(words).items():
            started = time.perf_counter()
            print(f"[{name}]", flush=True)
            step.run()
            print(f"[{name}] {time.perf_counter() - started:.1f} s", flush=True)
    except (ValueError, OSError) as error:
        print(f"pcclip-data: error: {error}", file=sys.stderr)
        return 2
    return 0
