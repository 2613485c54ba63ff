"""What the processes of the distributed tests do."""

import itertools
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from pcclip.batch import PairBatch
from pcclip.model.lora import Lora
from pcclip.model.losses import Ranks
from pcclip.model.module import LitDifferenceCLIP
from pcclip.model.text import stacked
from tests.helpers.models import make_batch, make_module

SETTINGS: list[dict[str, Any]] = [
    {"difference_loss": loss, "head": head, "caption_weight": caption, "learn_logit_scale": True}
    for (loss, head), caption in itertools.product(
        (("contrastive", "linear"), ("sigmoid", "linear"), ("mse", "mlp")), (0.0, 0.5)
    )
]
SETTINGS[1] |= {"chunk_size": 2, "grad_checkpointing": True}
SETTINGS[3] |= {"chunk_size": 3, "keep_weight": 3.0, "keep_loss": "features"}
SETTINGS.append(SETTINGS[1] | {"sign_weight": 1.0, "keep_weight": 3.0})
SETTINGS.append(SETTINGS[1] | {"lora": Lora(rank=2, towers=["text", "image"])})


def module_and_batches(settings: dict[str, Any], world_size: int) -> tuple[LitDifferenceCLIP, list[PairBatch]]:
    """A module in float64, and a batch of other pictures for each rank."""
    module = make_module(["all"], **settings).double()
    if settings.get("keep_weight"):  # its gradient is zero at the base model
        with torch.no_grad():
            module.model.towers.text_projection.mul_(torch.linspace(0.5, 2, module.model.embed_dim))
    if settings["head"] == "linear":
        with torch.no_grad():
            module.model.head.weight.add_(0.1 * torch.randn_like(module.model.head.weight))
    batches = [make_batch(module, pairs=5, captions=3, seed=rank) for rank in range(world_size)]
    for batch in batches[:1]:  # pairs of identical pictures, on one rank alone
        assert batch.images is not None
        batch.images[batch.second[:2]] = batch.images[batch.first[:2]]
    return module, batches


def joined(batches: list[PairBatch]) -> PairBatch:
    """One batch of all ranks' images, pairs and captions, in the order of the ranks."""
    images = [batch.images for batch in batches if batch.images is not None]
    offsets = [sum(len(part) for part in images[:rank]) for rank in range(len(images))]

    def moved(name: str) -> Tensor:
        return torch.cat([getattr(batch, name) + offset for batch, offset in zip(batches, offsets, strict=True)])

    return PairBatch(
        images=torch.cat(images),
        embeddings=None,
        image_ids=torch.cat([batch.image_ids for batch in batches]),
        first=moved("first"),
        second=moved("second"),
        tokens=stacked(*(batch.tokens for batch in batches)),
        captioned=moved("captioned"),
        caption_tokens=stacked(*(batch.caption_tokens for batch in batches)),
    )


class Step(nn.Module):
    """The module's loss as a forward pass, which is what DDP wraps."""

    def __init__(self, module: LitDifferenceCLIP) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: PairBatch) -> Tensor:
        return self.module.losses(batch)["loss"]


def average_gradients(folder: Path) -> None:
    """Rank 0 saves the gradients that DDP averaged, for each of `SETTINGS`."""
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    for number, settings in enumerate(SETTINGS):
        module, batches = module_and_batches(settings, world_size)
        module._ranks = Ranks(rank, world_size)
        parallel = DistributedDataParallel(Step(module))  # which must live until the backward pass is over
        parallel(batches[rank]).backward()
        if rank == 0:
            found = {name: value.grad for name, value in module.named_parameters() if value.grad is not None}
            torch.save(found, folder / f"{number}.pt")
    dist.barrier()
    dist.destroy_process_group()


SHARDED: dict[str, Any] = {
    "head": "linear",
    "caption_weight": 0.5,
    "keep_weight": 3.0,
    "caption_logit_scale": 10.0,
    "chunk_size": 2,
    "lora": Lora(rank=2),
}


def sharded_gradients(folder: Path) -> None:
    """Rank 0 saves the gradients of sharded weights (`SHARDED`), put together, and an embedding made with them."""
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()
    module, batches = module_and_batches(SHARDED, world_size)
    module._ranks = Ranks(rank, world_size)
    names = list(module.state_dict())
    module.model.shard(init_device_mesh("cpu", (world_size,)))
    assert list(module.state_dict()) == names
    module.losses(batches[rank])["loss"].backward()
    found = {name: value.grad.full_tensor() for name, value in module.named_parameters() if value.grad is not None}  # type: ignore[attr-defined]
    text = module.model.encode_texts(["a dog"]).detach()
    if rank == 0:
        torch.save((found, text), folder / "sharded.pt")
    dist.barrier()
    dist.destroy_process_group()
