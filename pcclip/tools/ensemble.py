"""`pcclip ensemble`: blend two models in weight space, or evaluate several blends."""

from pcclip.atomic import atomic_folder
from pcclip.commands.options import Ensemble
from pcclip.model.ensemble import blend
from pcclip.model.loading import save_clip
from pcclip.tools.open_model import load_model
from pcclip.tools.output import claim


def run(options: Ensemble) -> None:
    """Save one blend, or the results of a sweep."""
    if (options.alpha is None) == (options.sweep is None):
        raise ValueError("give either --alpha or --sweep")
    claim(options.output, options.overwrite)
    base = load_model(options.base, options.pretrained, "cpu").clip
    finetuned = load_model(options.model, device="cpu" if options.sweep is None else "auto").clip
    if options.sweep is not None:
        from pcclip.tools.sweep import sweep, write_sweep  # here: a blend needs no Lightning

        write_sweep(sweep(base, finetuned, options.sweep, options.alphas), options.output)
        return
    alpha = options.alpha or 0.0
    finetuned.load_state_dict(blend(base.state_dict(), finetuned.state_dict(), alpha))
    with atomic_folder(options.output) as target:
        save_clip(finetuned, target)
    print(f"{alpha:g} of {options.model} and {1 - alpha:g} of {options.base}: {options.output}")
