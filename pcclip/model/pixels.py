"""open_clip's evaluation preprocessing up to uint8 pixels. The model divides and normalises."""

from typing import Any

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from torch import Tensor
from torchvision import transforms


def uint8_transform(preprocess: dict[str, Any]) -> transforms.Compose:
    """Return a transform from a PIL image to uint8 pixels (3, H, W)."""
    steps = image_transform_v2(PreprocessCfg(**preprocess), is_train=False).transforms
    if not isinstance(steps[-2], transforms.ToTensor) or not isinstance(steps[-1], transforms.Normalize):
        raise RuntimeError(
            "open_clip's preprocessing no longer ends with ToTensor and Normalize; pin open_clip_torch<4"
        )
    steps = steps[:-2]
    if isinstance(steps[0], transforms.Resize) and isinstance(steps[1], transforms.CenterCrop):
        steps = [ShrinkAndCut(*steps[:2]), *steps[2:]]
    return transforms.Compose([*steps, pixels_of])


def pixels_of(image: Image.Image) -> Tensor:
    """Return the pixels (3, H, W) of an RGB image, channels last in memory."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class ShrinkAndCut:
    """Resize and centre crop in one step, with the same result.

    Pillow resizes rows first, then columns. Columns outside the crop are not needed.

    Args:
        resize: The first step.
        cut: The second step.
    """

    def __init__(self, resize: transforms.Resize, cut: transforms.CenterCrop) -> None:
        self._resize = resize
        self._cut = cut
        bicubic = resize.interpolation == transforms.InterpolationMode.BICUBIC
        self._side = resize.size if bicubic and resize.max_size is None and cut.size == (resize.size,) * 2 else None

    def __call__(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        # Pillow converts other modes before it resizes them, and back.
        if not isinstance(self._side, int) or width <= height or image.mode not in ("RGB", "L"):
            cut: Image.Image = self._cut(self._resize(image))
            return cut
        side, wide = self._side, int(self._side * width / height)
        left = round((wide - side) / 2)
        rows = image.resize((wide, height), Image.Resampling.BICUBIC).crop((left, 0, left + side, height))
        return rows.resize((side, side), Image.Resampling.BICUBIC)
