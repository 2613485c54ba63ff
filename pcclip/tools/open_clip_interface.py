"""The methods of an open_clip model, for tools that expect one."""

from collections.abc import Sequence
from typing import Any

import open_clip
from open_clip.transform import PreprocessCfg, image_transform_v2
from torch import Tensor, nn
from torch.nn import functional as F

from pcclip.model.clip import DifferenceCLIP
from pcclip.model.text import encode_tokens


class OpenClipInterface(nn.Module):
    """CLIP in evaluation mode and without gradients, with the interface of an open_clip model.

    CLIP_benchmark and similar tools use `encode_image`, `encode_text`, `tokenizer` and `preprocess`.

    Attributes:
        clip: The towers and the head.
        preprocess: PIL image to normalised pixels (3, H, W), like open_clip's.
    """

    def __init__(self, clip: DifferenceCLIP) -> None:
        super().__init__()
        self.clip = clip.requires_grad_(False).eval()
        self.preprocess = image_transform_v2(
            PreprocessCfg(**open_clip.get_model_preprocess_cfg(clip.towers)), is_train=False
        )

    def tokenizer(self, texts: str | Sequence[str]) -> Tensor:
        """Return token ids (N, L), trimmed to the longest text."""
        return self.clip.tokenizer([texts] if isinstance(texts, str) else texts)

    @property
    def logit_scale(self) -> Tensor:
        """Return the logarithm of CLIP's logit scale, as in open_clip."""
        scale: Tensor = self.clip.towers.logit_scale
        return scale

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Encode normalised pixels (N, 3, H, W) to embeddings (N, D), as open_clip does."""
        self.clip.require_image_tower("pixels")
        features: Tensor = self.clip.towers.encode_image(image)
        return F.normalize(features, dim=-1) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Encode token ids (N, L) to embeddings (N, D), as open_clip does."""
        features = encode_tokens(self.clip.towers, text)
        return F.normalize(features, dim=-1) if normalize else features

    def forward(self, image: Tensor | None = None, text: Tensor | None = None) -> tuple[Any, Any, Tensor]:
        """Return unit image and text embeddings and the logit scale, as open_clip does."""
        return (
            None if image is None else self.encode_image(image, normalize=True),
            None if text is None else self.encode_text(text, normalize=True),
            self.logit_scale.exp(),
        )
