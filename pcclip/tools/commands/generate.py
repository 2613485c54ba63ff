"""Text-to-image along a difference: the prompt's embedding plus lambda times a difference text's (extra `generation`).

pcclip generate --pipeline DIR --prompt "a photo of a dog" --difference "the first dog is larger than the second"
"""

from __future__ import annotations

import argparse

from pcclip.tools.commands.common import add_model, add_output, load_model, positive


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    add_model(parser)
    parser.add_argument("--pipeline", required=True, metavar="DIR", help="folder of a Stable Diffusion pipeline")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what is to be seen")
    parser.add_argument("--difference", required=True, metavar="TEXT", help="how it, called the first, is to differ")
    parser.add_argument("--reverse", default="", metavar="TEXT", help="the opposite text, which is subtracted")
    parser.add_argument("--lambda", dest="lambdas", type=float, nargs="+", default=[0.0, 0.5, 1.0], metavar="X")
    parser.add_argument("--target", metavar="TEXT", help="text that CLIPScore judges by (default: the prompt)")
    parser.add_argument("--judge", metavar="MODEL", help="model that judges (default: the one that generates)")
    parser.add_argument(
        "--steps", type=positive, default=30, metavar="N", help="denoising steps (default: %(default)s)"
    )
    parser.add_argument("--guidance", type=float, default=7.5, metavar="X", help="(default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3], metavar="N", help="a picture for each")
    parser.add_argument("--side", type=positive, metavar="N", help="width and height in pixels")
    add_output(parser, "generated.png", "PNG with a row for each lambda")


def run(options: argparse.Namespace) -> None:
    """Generate, judge, and write the grid."""
    from pcclip.atomic import atomic_path
    from pcclip.tools.output import need, new_file

    output = new_file(options.output, ".png", options.overwrite)
    for package in ("diffusers", "transformers"):
        need(package, "generation")
    if len(set(options.lambdas)) < len(options.lambdas):
        raise ValueError("--lambda: the same number twice")
    from pcclip import load
    from pcclip.data.picture_files import save_png
    from pcclip.metrics.protocol import Wording
    from pcclip.reports.contact_sheet import contact_sheet
    from pcclip.tools.generation import Sampling, clip_score, generate, load_pipeline

    model = load_model(options)
    model.warn_of_cuts([options.prompt, options.difference, options.reverse])
    judge = load(options.judge, device=options.device) if options.judge else model
    pipeline = load_pipeline(options.pipeline, model)
    sampling = Sampling(options.steps, options.guidance, tuple(options.seeds), options.side)
    difference = Wording(options.difference, options.reverse)
    pictures = generate(pipeline, options.prompt, difference, options.lambdas, sampling)
    target = options.target or options.prompt
    scores = {factor: clip_score(judge, row, target) for factor, row in pictures.items()}
    for factor, score in scores.items():
        print(f"lambda {factor:g}: CLIPScore {score:.2f} with {target!r}")
    labels = [f"lambda {factor:g}" for factor, row in pictures.items() for _ in row]
    sheet = contact_sheet(
        [picture for row in pictures.values() for picture in row],
        labels,
        f"{options.prompt} + lambda x: {options.difference}",
        columns=len(options.seeds),
    )
    with atomic_path(output) as path:
        save_png(sheet, path)
    print(f"written to {output}")
