"""Scaled dot-product attention: no weights of its own, but the fused kernel must see all records at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reticent.training.engine.call import UnderVmap


class _Attention(UnderVmap):
    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> tuple[Tensor, int]:
        *tensors, (dropout, causal, scale, gqa) = args
        q, k, v = (_rows_first(t, axis, info.batch_size) for t, axis in zip(tensors[:3], in_dims[:3], strict=True))
        mask = None if tensors[3] is None else _rows_first(tensors[3], in_dims[3], info.batch_size)
        lead = torch.broadcast_shapes(*(t.shape[:-3] for t in (q, k, v)))
        if mask is not None:
            mask = mask.reshape(len(mask), *[1] * (len(lead) + 3 - mask.ndim), *mask.shape[1:])
            mask = mask.expand(*lead, *mask.shape[-3:]).flatten(0, -4)
        q, k, v = (t.expand(*lead, *t.shape[-3:]).flatten(0, -4) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, scale=scale, enable_gqa=gqa)
        return y.unflatten(0, lead), 0


def _rows_first(t: Tensor, axis: int | None, rows: int) -> Tensor:
    return t.expand(rows, *t.shape) if axis is None else t.movedim(axis, 0)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """`F.scaled_dot_product_attention` of one record with heads (..., H, L, E); without heads, the library's own."""
    tensors = [t for t in (query, key, value, attn_mask) if t is not None]
    if query.ndim < 3 or not any(torch._C._functorch.is_batchedtensor(t) for t in tensors):
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    return _Attention.apply(query, key, value, attn_mask, (dropout_p, is_causal, scale, enable_gqa))
