"""`pcclip compare`: what differs between two pictures, as the model sees it."""

from pcclip.commands.options import Compare
from pcclip.tools.attributes import axes_of, vocabulary
from pcclip.tools.open_model import load_model


def run(options: Compare) -> None:
    """Print a line for each axis, or for those of the vocabulary that fit best."""
    if len(options.pictures) != 2:
        raise ValueError(f"{len(options.pictures)} pictures; give two")
    first, second = options.pictures
    given = options.more or options.less or options.attribute
    axes = axes_of(options) if given else vocabulary(options.vocabulary, options.attributes)
    model = load_model(options.model, options.pretrained, options.device)
    rows = model.explain(first, second, axes)[: options.count]
    width = max(len(text) for text in [first, *(row.text for row in rows)])
    print(f"margin  {first:<{width}}  {second}")
    for row in rows:
        print(f"{row.margin:>6.3f}  {row.text:<{width}}  {row.reverse}")
    print(f"{len(rows)} of {len(axes)} axes; margin: cosine of the difference with the text minus with its opposite")
