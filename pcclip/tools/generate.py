"""`pcclip generate`: text-to-image with arithmetic on text states (extra `generation`)."""

from pcclip.atomic import atomic_path
from pcclip.commands.options import Generate
from pcclip.data.picture_files import save_png
from pcclip.metrics.clip_score import clip_score
from pcclip.model.text_to_image import generate, load_pipeline
from pcclip.reports.contact_sheet import contact_sheet
from pcclip.tools.open_model import load_model
from pcclip.tools.output import claim


def run(options: Generate) -> None:
    """Generate images, print their CLIPScore, and write the contact sheet."""
    output = claim(options.output, options.overwrite, ".png")
    model = load_model(options.model, options.pretrained, options.device)
    model.warn_of_cuts([options.prompt, options.difference, options.reverse])
    judge = load_model(options.judge, device=options.device) if options.judge else model
    pictures = generate(
        load_pipeline(options.pipeline, model.clip),
        options.prompt,
        options.difference,
        options.reverse,
        options.lambdas,
        seeds=options.seeds,
        steps=options.steps,
        side=options.side,
    )
    target = options.target or options.prompt
    for factor, row in pictures.items():
        score = clip_score(judge.embed(row).embeddings, judge.embed_texts([target]).cpu()).mean()
        print(f"lambda {factor:g}: CLIPScore {score:.3f} with {target!r}")
    sheet = contact_sheet(
        [picture for row in pictures.values() for picture in row],
        [f"lambda {factor:g}" for factor, row in pictures.items() for _ in row],
        f"{options.prompt} + lambda x: {options.difference}",
        columns=len(options.seeds),
    )
    with atomic_path(output) as path:
        save_png(sheet, path)
    print(f"written to {output}")
