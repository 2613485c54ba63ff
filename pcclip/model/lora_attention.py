"""LoRA of `nn.MultiheadAttention`, for open_clip's blocks. Importing this needs peft, which is optional."""

from collections.abc import Iterator
from typing import Any

from peft.tuners.lora.layer import MultiheadAttention
from torch import Tensor, nn
from torch.nn import functional as F


class LoraAttention(MultiheadAttention):
    """peft's adapter of `nn.MultiheadAttention`, with the same weights, applied to activations.

    peft's own forward pass adds the update to the weights and subtracts it afterwards. Rounding then changes the frozen
    weights, each pass holds a copy of them, the backward pass computes gradients of full size, and dropout is ignored. Its
    release 0.21 also adds the update of `out_proj` twice, here and in `merge`. To merge, use `pcclip.model.lora.merged`.
    """

    def forward(
        self, query: Tensor, *inputs: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> Any:
        """Return attention's output (N, L, W) and None, from query, key and value, (N, L, W) each.

        Args:
            query: Queries.
            inputs: Keys and values.
            need_weights: Must be False, as open_clip has it.
            attn_mask: Mask that is added to the scores, (L, S) or (N * heads, L, S).
        """
        key, value = inputs
        base: Any = self.base_layer
        width, count = self.embed_dim, self.num_heads

        def project(x: Tensor, rows: slice) -> Tensor:
            bias = None if base.in_proj_bias is None else base.in_proj_bias[rows]
            projected = F.linear(x, base.in_proj_weight[rows], bias)
            for name in self.active_adapters:
                low = self.lora_A[name](self.lora_dropout[name](x))
                up: Any = self.lora_B[name]
                projected = projected + self.scaling[name] * F.linear(low, up.weight[rows])
            return projected

        if query is key is value:
            parts = project(query, slice(None)).chunk(3, -1)
        else:
            parts = tuple(project(x, slice(i * width, (i + 1) * width)) for i, x in enumerate((query, key, value)))
        queries, keys, values = (part.view(*part.shape[:2], count, -1).transpose(1, 2) for part in parts)
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.view(-1, count, *attn_mask.shape[1:])
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask)
        return base.out_proj(mixed.transpose(1, 2).flatten(2)), None

    # peft registers the weights again in these two, which would replace the parameters. This forward pass leaves them in place.
    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        return nn.Module.state_dict(self, *args, **kwargs)

    def named_modules(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Module]]:
        return nn.Module.named_modules(self, *args, **kwargs)
