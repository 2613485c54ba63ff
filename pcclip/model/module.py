"""The LightningModule. Pretraining, finetuning and all baselines are settings of it."""

import math
from typing import Any

import torch
from jsonargparse.typing import NonNegativeFloat, PositiveFloat, PositiveInt
from lightning.pytorch.cli import OptimizerCallable
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from pcclip.batch import PairBatch
from pcclip.model.averaging import average_exactly
from pcclip.model.batch_norm import batch_norm_trains, synchronise
from pcclip.model.head import HeadName
from pcclip.model.held_out_losses import HeldOutLosses
from pcclip.model.keep import KeepLoss, KeepName
from pcclip.model.loading import MODEL_SETTINGS, ClipSource, check_fits, load_clip
from pcclip.model.lora import Lora, add_adapters
from pcclip.model.losses import ALONE, LOSSES, Counted, LossName, Ranks, row_keys, sign_loss
from pcclip.model.optim import Schedule
from pcclip.model.optimisation import Optimisation
from pcclip.model.text import stacked
from pcclip.model.trainable import set_trainable

MAX_LOGIT_SCALE = 100.0  # as in CLIP's own training


class LitDifferenceCLIP(HeldOutLosses, Optimisation):
    """LightningModule that trains a `DifferenceCLIP` with a weighted sum of a difference loss and a caption loss.

    Args:
        clip: Source of the towers.
        trainable: Parts that train; see `set_trainable`.
        lora: Low-rank adapters (LoRA, arXiv 2106.09685), which train in place of all weights of their towers; the rest of
            `trainable` trains too. Saved models have them merged.
        head: Difference head: `identity` (the paper's), `linear` or `mlp`.
        difference_loss: `contrastive` (the paper's), `sigmoid` or `mse`.
        difference_weight: Weight of the difference loss; 0 trains on captions only.
        caption_weight: Weight of the caption loss: sigmoid for models with a logit bias (SigLIP), else CLIP's cross-entropy.
        sign_weight: Weight of `sign_loss`: for each difference text, choose between its pair and the reversed pair. The
            contrastive losses learn this too, but more slowly, since it is one of hundreds of negatives.
        keep_weight: Weight of `KeepLoss`, which keeps captions and images near those of the base model.
        keep_loss: What it keeps: `similarities` of images and captions, or `features`, the embeddings themselves.
        logit_scale: Scale of the difference logits (1 / temperature), at most 100. The paper's 1 barely trains; 10 to 14 does.
        learn_logit_scale: Whether this scale trains.
        logit_bias: Initial bias of the `sigmoid` loss, SigLIP's -10 by default. The bias always trains.
        caption_logit_scale: Fixed scale of the caption logits; by default CLIP's own scale. With it, the caption loss is CLIP's
            cross-entropy for all models, since the logit bias of SigLIP only fits its own scale.
        mask_duplicates: Whether to exclude pairs (or captions) with the same images or the same text, in all ranks' batches,
            from each other's negatives. They are correct matches, and short captions and texts about classes recur often.
            False counts them as negatives, as the paper and open_clip do.
        chunk_size: Maximum number of images, and of texts, whose activations are in memory at once. Allows batches larger
            than memory, with the same gradients, for one more forward pass. Gradient accumulation does not replace it, since
            negatives come from the batch.
        grad_checkpointing: Whether to keep only the inputs of the towers' blocks and recompute the rest in the backward pass.
            Needs less memory and a third more time. open_clip's ResNet image towers do not support it.
        compile: Whether to compile the towers' blocks with `torch.compile`. Checkpoints keep plain names.
        optimizer: Optimiser class with its settings.
        lr_factors: Factors of the learning rate by part, such as `{image: 0.1}`. Parts are named as in `trainable`. Where parts
            overlap, their factors are multiplied.
        layer_decay: Factor of the learning rate from each layer of the image tower to the one before it, such as 0.75.
        schedule: Learning-rate schedule; constant by default.
    """

    def __init__(
        self,
        clip: ClipSource,
        trainable: list[str],
        lora: Lora | None = None,
        head: HeadName = "identity",
        difference_loss: LossName = "contrastive",
        difference_weight: NonNegativeFloat = 1.0,
        caption_weight: NonNegativeFloat = 0.0,
        sign_weight: NonNegativeFloat = 0.0,
        keep_weight: NonNegativeFloat = 0.0,
        keep_loss: KeepName = "similarities",
        logit_scale: PositiveFloat = 10.0,
        learn_logit_scale: bool = False,
        logit_bias: float = -10.0,
        caption_logit_scale: PositiveFloat | None = None,
        mask_duplicates: bool = True,
        chunk_size: PositiveInt | None = None,
        grad_checkpointing: bool = False,
        compile: bool = False,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        lr_factors: dict[str, PositiveFloat] | None = None,
        layer_decay: PositiveFloat | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__()
        if difference_weight + caption_weight == 0:
            raise ValueError(
                "model.difference_weight and model.caption_weight are both 0; at least one must be positive"
            )
        if sign_weight and not difference_weight:
            raise ValueError(f"model.sign_weight={sign_weight} needs model.difference_weight to be positive")
        if logit_scale > MAX_LOGIT_SCALE:
            raise ValueError(f"model.logit_scale={logit_scale}: must be at most {MAX_LOGIT_SCALE:g}")
        self.model = load_clip(
            clip.name, clip.pretrained, image_weights=clip.image_weights, preprocess=clip.preprocess, head=head
        )
        set_trainable(self.model, trainable)
        self._lora = {} if lora is None else add_adapters(self.model, lora)
        self.difference_weight = difference_weight
        self.caption_weight = caption_weight
        self.sign_weight = sign_weight
        self.keep_weight = keep_weight
        self.log_logit_scale = nn.Parameter(torch.tensor(math.log(logit_scale)), requires_grad=learn_logit_scale)
        self.logit_bias = nn.Parameter(torch.tensor(logit_bias), requires_grad=difference_loss == "sigmoid")
        self._head_name = head
        self._loss_name: LossName = difference_loss
        self._ranks = ALONE
        self._caption_logit_scale = caption_logit_scale
        self._mask_duplicates = mask_duplicates
        self._optimizer = optimizer
        self._schedule = schedule
        self._lr_factors = lr_factors or {}
        self._layer_decay = layer_decay
        self.learning_rate_factors()  # so that a wrong name is an error now
        self._freeze_unused()
        self.model.train()
        if chunk_size is not None and batch_norm_trains(self.model):
            raise ValueError(
                f"model.chunk_size={chunk_size}: the towers' batch norms would take their statistics from chunks; "
                "freeze the image tower or leave chunk_size out"
            )
        self.model.chunk_size = chunk_size
        self._keep_loss = KeepLoss(self.model, keep_loss) if keep_weight else None
        if grad_checkpointing:
            if isinstance(self.model.towers.visual, ModifiedResNet) and not self.model.image_tower_frozen:
                raise ValueError(
                    "model.grad_checkpointing: open_clip's ResNet towers cannot recompute their blocks; freeze the image "
                    "tower, or use model.chunk_size"
                )
            self.model.towers.set_grad_checkpointing()
        if compile:
            self.model.compile_towers()

    def _freeze_unused(self) -> None:
        """Freeze unused parameters, since DDP waits for the gradient of every trainable one."""
        towers = self.model.towers
        unused: list[Any] = []
        if self.difference_weight == 0:
            unused += [self.model.head, self.log_logit_scale, self.logit_bias]
        if self._loss_name == "mse" and not self.sign_weight:  # mse has no scale
            unused.append(self.log_logit_scale)
        if self.caption_weight == 0 or self._caption_logit_scale is not None:
            unused.append(towers.logit_scale)
            if towers.logit_bias is not None:
                unused.append(towers.logit_bias)
        if hasattr(towers, "text_decoder"):  # of CoCa, which generates captions
            unused.append(towers.text_decoder)
        for part in unused:
            part.requires_grad_(False)

    def configure_model(self) -> None:
        """Shard the weights if the strategy requires it (`conf/fsdp.yaml`). Lightning calls this more than once."""
        if self.device_mesh is None or isinstance(self.model, FSDPModule):
            return
        if self.log_logit_scale.requires_grad or self.logit_bias.requires_grad:
            raise ValueError(
                "a learned scale or bias cannot be sharded; with sharded weights use the contrastive or mse loss and "
                "model.learn_logit_scale=false"
            )
        self.model.shard(self.device_mesh["data_parallel"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add architecture, preprocessing, head and adapters as plain data, for `pcclip.load`."""
        checkpoint[MODEL_SETTINGS] = {
            "clip": {"name": self.model.name, "config": self.model.config, "preprocess": self.model.preprocess},
            "head": self._head_name,
            "lora": self._lora and {**self._lora, "others": self._trains_besides_adapters()},
        }

    def _trains_besides_adapters(self) -> list[str]:
        """Return the names of other weights of the model that train. Scales do not change embeddings, so they do not count."""
        return [
            name
            for name, value in self.model.named_parameters()
            if value.requires_grad and value.ndim > 0 and ".lora_" not in name
        ]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "state_dict" not in checkpoint:  # a distributed checkpoint, whose loader checks this
            return
        source = self._trainer.ckpt_path if self._trainer is not None else None
        check_fits(checkpoint["state_dict"], self.state_dict(), source)

    def setup(self, stage: str) -> None:
        """Set rank and number of processes for the losses, and prepare weight averaging and batch norms."""
        if stage == "fit":
            average_exactly(self.trainer)
            synchronise(self.trainer, self.model.towers.visual)
        self._ranks = Ranks(self.trainer.global_rank, self.trainer.world_size)

    def on_train_start(self) -> None:
        """Restart a resumed epoch if the data module found that its batches have changed."""
        if getattr(self.trainer.datamodule, "restarts_epoch", False):  # type: ignore[attr-defined]  # not declared
            # Data modules have no hook after the loops are restored, and Lightning has no setting for this.
            self.trainer.fit_loop.epoch_loop.batch_progress.reset_on_run()
            self.trainer.fit_loop.epoch_loop.reset_restart_stage()

    @property
    def uses_captions(self) -> bool:
        """Whether a loss needs captions."""
        return self.caption_weight + self.keep_weight > 0

    @property
    def caption_logit_scale(self) -> Tensor:
        """Scale of the caption logits."""
        if self._caption_logit_scale is not None:
            return torch.tensor(self._caption_logit_scale, device=self.device)
        scale: Tensor = self.model.towers.logit_scale.exp()
        return scale

    def embed(self, batch: PairBatch) -> Tensor:
        """Return unit image embeddings (B, D): those in the batch, or its encoded images."""
        if batch.embeddings is not None:  # the Trainer casts them to half precision if the weights have it
            return batch.embeddings.to(torch.promote_types(batch.embeddings.dtype, torch.float32))
        assert batch.images is not None
        return self.model.encode_images(batch.images)

    def losses(self, batch: PairBatch, alone: bool = False) -> dict[str, Tensor]:
        """Return the losses of a batch by name, with their weighted sum as `loss`.

        Args:
            batch: The batch of this rank, a part of the joint batch.
            alone: Treat it as the whole batch. It may then have no pairs or no captions; their losses are left out.
        """
        ranks = ALONE if alone else self._ranks
        images = self.embed(batch)
        parts: dict[str, Tensor] = {}
        total = images.new_zeros(())
        with_pairs = self.difference_weight > 0 and not (alone and not len(batch.first))
        with_captions = self.uses_captions and not (alone and not len(batch.captioned))
        if not (with_pairs or with_captions):
            return {"loss": total}
        tokens = batch.tokens if with_pairs else batch.tokens[:0]
        caption_tokens = batch.caption_tokens if with_captions else batch.caption_tokens[:0]
        # One pass for both, since the gradient of each look-up is as large as the token table.
        encoded = self.model.encode_tokens(stacked(tokens, caption_tokens))
        texts, captions = torch.split(encoded, [len(tokens), len(caption_tokens)])
        if with_pairs:
            first, second = images[batch.first], images[batch.second]
            counted = Counted.distinct(first - second, ranks.world_size)
            differences = self.model.difference(first, second)
            scale = self.log_logit_scale.exp()
            bias = self.logit_bias if self._loss_name == "sigmoid" else None
            pair_ids = batch.image_ids[torch.stack([batch.first, batch.second], 1)]
            keys = self._keys(tokens, row_keys(pair_ids))
            parts["difference_loss"] = LOSSES[self._loss_name](differences, texts, scale, bias, keys, counted, ranks)
            cosines = (differences * texts).sum(-1)
            parts["sign_accuracy"] = counted.mean((cosines > 0).float().where(~cosines.isnan(), torch.nan))
            parts["identical_pairs"] = (~counted.own).sum()
            total = total + self.difference_weight * parts["difference_loss"]
            if self.sign_weight:
                parts["sign_loss"] = sign_loss(differences, texts, scale, counted)
                total = total + self.sign_weight * parts["sign_loss"]
        if with_captions and self._keep_loss is not None:
            parts["keep_loss"] = self._keep_loss(batch, images, captions, caption_tokens, ranks)
            total = total + self.keep_weight * parts["keep_loss"]
        if with_captions and self.caption_weight:
            keys = self._keys(caption_tokens, batch.image_ids[batch.captioned])
            bias = self.model.towers.logit_bias if self._caption_logit_scale is None else None
            scale, own_loss = self.caption_logit_scale, LOSSES["contrastive" if bias is None else "sigmoid"]
            parts["caption_loss"] = own_loss(images[batch.captioned], captions, scale, bias, keys, ranks=ranks)
            total = total + self.caption_weight * parts["caption_loss"]
        return {"loss": total, **parts}

    def _keys(self, tokens: Tensor, images: Tensor) -> Tensor | None:
        """Return the keys that define duplicates: text and images, (P, 2)."""
        return torch.stack([row_keys(tokens), images], 1) if self._mask_duplicates else None

    def training_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        losses = self.losses(batch)
        if (identical := losses.pop("identical_pairs", None)) is not None:  # summed over the epoch and all processes
            total: dict[str, Any] = {"on_step": False, "on_epoch": True, "reduce_fx": "sum", "sync_dist": True}
            self.log("train/identical_pairs", identical.float(), **total)
        self.log_dict({f"train/{name}": value.detach() for name, value in losses.items()}, prog_bar=True)
        return losses["loss"]

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Step, then clamp learned scales to 100. Clamping in the forward pass would remove their gradient."""
        super().optimizer_step(*args, **kwargs)
        with torch.no_grad():
            for scale in (self.log_logit_scale, self.model.towers.logit_scale):
                if scale.requires_grad:
                    scale.clamp_(max=math.log(MAX_LOGIT_SCALE))

    def predict_step(self, batch: PairBatch, batch_index: int) -> Tensor:
        """Return the cosine of each pair's difference with its text, (P,)."""
        if not len(batch.first):
            return batch.first.float()
        images = self.embed(batch)
        differences = self.model.difference(images[batch.first], images[batch.second])
        return (differences * self.model.encode_tokens(batch.tokens)).sum(-1)
