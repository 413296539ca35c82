"""AdamW on weights in float32, and on weights in bfloat16 as if they were in float32."""

from ctypes import c_float, c_int64, c_void_p
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from regard.models.native import at, compiled

DTYPES = torch.bfloat16, torch.int16, torch.float32, torch.bfloat16, torch.float32
"""Of a weight, its remainder, its gradient and its moments."""
SOURCE = Path(__file__).with_suffix(".c")
CHUNK = 2**18
"""Weights that are put together at once: with their moments they stay in the processor's cache."""


class AdamW(torch.optim.AdamW):
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) without decay, β = (0.9, 0.999), ε = 1e-8.

    A weight in bfloat16 has a gradient in float32 and a remainder of 16 bits: weight and remainder together are the
    weight in float32 that the step is taken on. Without it updates below 1/256 of a weight would be lost (Micikevicius
    et al. 2018, section 3.1, who keep a whole copy in float32; half of it stands in the weight).

    Its first moment is in bfloat16 (as in DeepSeek-V3, 2024, section 3.3.3): that decays by a tenth a step, far above
    the spacing of 1/256. Its roundings change a step by 0.3 % where gradients are noise, and by up to 4 % where a
    gradient stays the same, since the mean then stops up to five spacings short of it. The second moment is in float32,
    unlike there: it decays by 1/1000 a step, which bfloat16 cannot say.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, weight_decay=0.0, betas=(0.9, 0.999), eps=1e-8, fused=True)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dtype is torch.bfloat16:
                    parameter.grad_dtype = torch.float32  # micro-batches add up in float32 as well

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        rounded = [
            (group, parameter, parameter.grad)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.dtype is torch.bfloat16 and parameter.grad is not None
        ]
        for _, parameter, _ in rounded:
            parameter.grad = None  # left out of torch's own step
        super().step(closure)
        for group, parameter, gradient in rounded:
            self._step_of_rounded(group, parameter, gradient)
            parameter.grad = gradient

    def _step_of_rounded(self, group: dict[str, Any], parameter: nn.Parameter, gradient: Tensor) -> None:
        state = self._state_of_rounded(parameter)
        state["step"] += 1
        arrays = parameter.data, state["remainder"], gradient, state["exp_avg"], state["exp_avg_sq"]
        assert tuple(array.dtype for array in arrays) == DTYPES
        if (library := compiled(SOURCE)) is not None:
            (beta1, beta2), taken = group["betas"], float(state["step"])
            rate, root = group["lr"] / (1 - beta1**taken), (1 - beta2**taken) ** 0.5
            numbers = (c_float(x) for x in (rate, 1 - beta1, 1 - beta2, root, group["eps"]))
            library.step(*(c_void_p(at(array)) for array in arrays), c_int64(parameter.numel()), *numbers)
            return
        for weight, remainder, grad, mean, square in zip(*(a.view(-1).split(CHUNK) for a in arrays), strict=True):
            whole, its_mean = joined(weight, remainder), mean.float()
            adamw(
                [whole],
                [grad],
                [its_mean],
                [square],
                max_exp_avg_sqs=[],
                state_steps=[state["step"] - 1],  # each call counts
                fused=True,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
            split(whole, weight, remainder)
            mean.copy_(its_mean)

    def _state_of_rounded(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter, dtype=torch.float32)
            state["remainder"] = torch.zeros_like(parameter, dtype=torch.int16)
        return state


def joined(weight: Tensor, remainder: Tensor) -> Tensor:
    """The weight in float32, of what `split` left.

    Args:
        weight: bfloat16.
        remainder: int16 of the same shape: by how many of float32's spacings the weight is away from where it was
            rounded to. 0 is the weight itself.
    """
    return ((weight.view(torch.int16).int() << 16) + remainder).view(torch.float32)


def split(whole: Tensor, weight: Tensor, remainder: Tensor) -> None:
    """Rounds `whole` [float32] to the nearest `weight` (away from zero where two are as near, so that the remainder
    fits into 16 bits), and keeps what is left; both in place."""
    bits = whole.view(torch.int32)
    weight.view(torch.int16).copy_((bits + 2**15) >> 16)
    remainder.copy_(bits)  # the lower half
