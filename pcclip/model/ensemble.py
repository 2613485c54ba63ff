"""Weight-space ensembling of two models (arXiv 2409.09721, section 5; WiSE-FT, arXiv 2109.01903)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pcclip.model.clip import DifferenceCLIP


def blend(base: Mapping[str, Tensor], finetuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """`alpha * finetuned + (1 - alpha) * base` of every floating tensor; other buffers are the finetuned model's.

    Args:
        base: State of the model before finetuning.
        finetuned: State after it.
        alpha: 0 gives the base, 1 the finetuned model.

    Raises:
        ValueError: The two states differ in keys or shapes, so they are not of one model.
    """
    for key in sorted({*base, *finetuned}):
        shapes = [list(state[key].shape) if key in state else "nothing" for state in (base, finetuned)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"base and finetuned model have different architectures ({key}: {shapes[0]} and {shapes[1]}); "
                "blend a model with the one that it was finetuned from"
            )
    blended = {}
    for key, tuned in finetuned.items():
        start = base[key]
        if tuned.is_floating_point():
            start = start.to(tuned.device, tuned.dtype)
            # Weights that did not change stay bit for bit: the sum would turn -0.0 into 0.0, and fingerprints would differ.
            blended[key] = torch.where(tuned == start, tuned, start + alpha * (tuned - start))
        else:
            blended[key] = tuned.clone()
    return blended


def ensemble(base: DifferenceCLIP, finetuned: DifferenceCLIP, alpha: float) -> None:
    """Replace the weights of `finetuned`, including its head, by `alpha * finetuned + (1 - alpha) * base`.

    Raises:
        ValueError: The models have different architectures or heads.
    """
    finetuned.load_state_dict(blend(base.state_dict(), finetuned.state_dict(), alpha))
