"""Weight-space ensembling of two models (arXiv 2409.09721, section 5; WiSE-FT, arXiv 2109.01903)."""

from collections.abc import Mapping

import torch
from torch import Tensor


def blend(base: Mapping[str, Tensor], finetuned: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return `alpha * finetuned + (1 - alpha) * base` of all floating tensors, and other buffers of the finetuned model.

    Args:
        base: State dict of the model before finetuning.
        finetuned: State dict after finetuning.
        alpha: 0 gives the base, 1 the finetuned model.

    Raises:
        ValueError: The states differ in keys or shapes, so the models have different architectures.
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
