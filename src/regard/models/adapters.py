"""Linear layers with one LoRA adapter (Hu et al. 2021), by fewer passes over their outputs than peft makes."""

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as PeftLinear
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn

from regard.models.sequences import is_plain


def use_fast_products(model: Any) -> None:
    """Change how the adapted layers of `model` compute, not what."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.cast_input_dtype_enabled = False  # peft would cast to float32 and multiply there, which is slower
            for adapters in (module.lora_A, module.lora_B):
                for linear in adapters.values():
                    linear.__class__ = _AdapterWeight
        if type(module) is PeftLinear:
            module.__class__ = AdaptedLinear


class _AdapterWeight(nn.Linear):
    """A float32 weight that multiplies in the dtype of its input: only the weights need 24 bits, or small updates would
    be rounded away."""

    def forward(self, input: Tensor) -> Tensor:
        return nn.functional.linear(input, self.weight.to(input.dtype))


class AdaptedLinear(PeftLinear):
    """peft's layer, computed by `_Adapted` where it is plain."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.disable_adapters or args or kwargs or not is_plain(self):
            return super().forward(x, *args, **kwargs)
        (name,) = self.active_adapters
        inner, outer = self.lora_A[name].weight, self.lora_B[name].weight
        base = self.base_layer
        return _Adapted.apply(x, base.weight, base.bias, inner, outer, self.scaling[name])  # pyright: ignore[reportReturnType]


class _Adapted(torch.autograd.Function):
    """y = x·Wᵀ + c + s·(x·Aᵀ)·Bᵀ with frozen W and c, added in place; A and B are rounded to the dtype of x to be
    multiplied.

    With g = ∂L/∂y:  ∂L/∂x = g·W + s·(g·B)·A,  ∂L/∂A = s·(g·B)ᵀ·x,  ∂L/∂B = s·gᵀ·(x·Aᵀ)
    """

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, inner: Tensor, outer: Tensor, scaling: float
    ) -> Tensor:
        flat, a, b = x.reshape(-1, x.shape[-1]), inner.to(x.dtype), outer.to(x.dtype)
        low = nn.functional.linear(flat, a)
        out = nn.functional.linear(x, weight, bias)
        out.view(-1, out.shape[-1]).addmm_(low, b.T, alpha=scaling)
        ctx.save_for_backward(flat, low, weight, a, b)
        ctx.scaling, ctx.shape, ctx.dtypes = scaling, x.shape, (inner.dtype, outer.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        flat, low, weight, a, b = ctx.saved_tensors
        of_inner, of_outer = ctx.dtypes
        grad = grad.reshape(-1, grad.shape[-1])
        through = (grad @ b).mul_(ctx.scaling)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (grad @ weight).addmm_(through, a).view(ctx.shape)
        of_a, of_b = (through.T @ flat).to(of_inner), (grad.T @ low).to(of_outer).mul_(ctx.scaling)
        return of_x, None, None, of_a, of_b, None
