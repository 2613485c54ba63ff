"""`pcclip compare`: which of two pictures has more of something."""

from pcclip.commands.options import Compare
from pcclip.tools.attributes import axes_of
from pcclip.tools.open_model import load_model


def run(options: Compare) -> None:
    """Print a line for each axis."""
    if len(options.pictures) != 2:
        raise ValueError(f"{len(options.pictures)} pictures; give two")
    first, second = options.pictures
    axes = axes_of(options)
    model = load_model(options.model, options.pretrained, options.device)
    for axis in axes:
        texts = {wording.text: wording.reverse for wording in axis.wordings}
        cosines = model.compare(first, second, [*texts, *texts.values()])
        margin = sum(cosines[text] - cosines[reverse] for text, reverse in texts.items()) / len(texts)
        more = first if margin > 0 else second
        print(f"{axis.name}: {more} has more, by a margin of {abs(margin):.3f} (cosine with text minus reverse)")
