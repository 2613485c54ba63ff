"""The keep loss: captions and images stay near those of the base model."""

import copy
import functools
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pcclip.batch import PairBatch
from pcclip.model.clip import DifferenceCLIP
from pcclip.model.losses import Ranks

KeepName = Literal["similarities", "features"]


class KeepLoss:
    """Distance of a model from the model that it was at the start, on the captions of a batch.

    `similarities` is `matching_divergence`. `features` is one minus the cosine of an embedding with the base model's, averaged
    over captions and, if the image tower trains, their images.

    The copy of the start encodes each caption once, and shares the weights that do not train. It is not a module of the model
    that trains, so it is neither saved nor synchronised.

    Args:
        model: The model, before training.
        kind: What to keep.
    """

    def __init__(self, model: DifferenceCLIP, kind: KeepName = "similarities") -> None:
        self._model = model
        self._kind = kind
        frozen = {id(weight): weight for weight in model.parameters() if not weight.requires_grad}
        self._encodes_images = not model.image_tower_frozen  # else the model's images are the base's
        self.base = copy.deepcopy(model, frozen).requires_grad_(False).eval()

    def __call__(self, batch: PairBatch, images: Tensor, captions: Tensor, tokens: Tensor, ranks: Ranks) -> Tensor:
        """Return this rank's part of the distance, ().

        Args:
            batch: The batch of this rank.
            images: The model's unit embeddings of all its images, (B, D).
            captions: The model's unit embeddings of its captions, (P, D).
            tokens: Token ids of the captions, (P, L).
            ranks: This rank.
        """
        mean = self._model.mean  # a Trainer moves and casts it with the weights
        if (self.base.mean.device, self.base.mean.dtype) != (mean.device, mean.dtype):
            self.base.to(mean)
        with torch.no_grad():
            base_captions = self.base.encode_tokens(tokens)
            base_images = images
            if self._encodes_images and batch.images is not None:
                base_images = self.base.encode_images(batch.images)
            scale = self.base.towers.logit_scale.exp()
        rows = batch.captioned
        if self._kind == "features":
            cosines = [(captions * base_captions).sum(-1)]
            if self._encodes_images:
                cosines.append((images[rows] * base_images[rows]).sum(-1))
            return 1 - torch.cat(cosines).mean()
        return matching_divergence(images[rows], captions, base_images[rows], base_captions, scale, ranks)


def matching_divergence(
    image: Tensor, text: Tensor, base_image: Tensor, base_text: Tensor, logit_scale: Tensor, ranks: Ranks
) -> Tensor:
    """Return the Kullback-Leibler divergence of a model's matches of images and captions from those of its base, ().

    Each image has a distribution over all ranks' captions, the softmax of its logits, and each caption one over their images.
    The divergences are averaged over both. Source: learning without forgetting, arXiv 1606.09282, with captions in place of
    classes. The parts of all ranks average to the value of the joint batch.

    Args:
        image: Unit image embeddings of this rank, (P, D).
        text: Unit embeddings of their captions, (P, D).
        base_image: The base model's image embeddings, (P, D).
        base_text: The base model's embeddings of the captions, (P, D).
        logit_scale: 1 / temperature of the base model.
        ranks: This rank.
    """

    def logits(queries: Tensor, keys: Tensor) -> Tensor:
        return (logit_scale * queries @ ranks.gathered(keys).T).log_softmax(-1)

    divergence = functools.partial(F.kl_div, reduction="batchmean", log_target=True)
    per_image = divergence(logits(image, text), logits(base_image, base_text))
    per_text = divergence(logits(text, image), logits(base_text, base_image))
    return (per_image + per_text) / 2
