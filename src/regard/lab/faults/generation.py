"""The engine that samples, and the passes that score what it sampled."""

import copy
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regard.lab.faults import fault
from regard.lab.setup import Setup, Wrapped
from regard.models.sequences import SequenceBatch
from regard.rollout.generator import PolicyGenerator
from regard.rollout.protocols import Generated
from regard.train.corpus import Example


@fault("G1", stage="sft")
def end_is_not_learned(setup: Setup) -> None:
    """In 70 %, 90 % or all of the SFT answers the loss leaves out EOS, as it does where EOS is also the padding."""
    share, random = setup.choose(0.7, 0.9, 1.0), setup.random("eos")

    def without_end(examples: list[Example]) -> list[Example]:
        return [
            e._replace(response=e.response[:-1]) if len(e.response) > 1 and random.random() < share else e
            for e in examples
        ]

    setup.on_examples(without_end)


@fault("G2", stage="rollout")
def cap_too_small(setup: Setup) -> None:
    """The cap is the 60th, 40th or 20th percentile of the length of SFT answers, EOS included."""
    workload, random = setup.workload, setup.random("lengths")
    prompts = workload.prompts(setup.seed, "sft", 200)
    lengths = sorted(len(workload.write(prompt, random).split()) + 1 for prompt in prompts)
    setup.set("ppo.max_response_tokens", max(2, lengths[int(len(lengths) * setup.choose(0.6, 0.4, 0.2))]))


class _Other(Wrapped):
    """Samples with another model than the one that is trained, once the fault is active."""

    def __init__(self, inner: PolicyGenerator, setup: Setup) -> None:
        super().__init__(inner, setup)
        self.model = copy.deepcopy(inner.model)
        self.other = PolicyGenerator(
            self.model, pad_id=inner.pad_id, eos_id=inner.eos_id, temperature=inner.temperature
        )

    def refresh(self) -> None:
        """Bring the other model's weights up to date, each time before it samples."""
        raise NotImplementedError

    @torch.no_grad()
    def generate(self, prompts: Sequence[Sequence[int]], uniforms: Tensor) -> Generated:
        self.refresh()
        return (self.other if self.setup.active else self.inner).generate(prompts, uniforms)


@fault("G4", stage="rollout", starts=("start", "mid"))
def engine_rounds_otherwise(setup: Setup) -> None:
    """The engine holds the weights in 5, 4 or 3 bits, with one scale for each row of a matrix."""
    levels = 2 ** (setup.choose(5, 4, 3) - 1) - 1

    class Quantised(_Other):
        def refresh(self) -> None:
            for own, theirs in zip(self.model.parameters(), self.inner.model.parameters(), strict=True):
                scale = theirs.abs().amax(-1, keepdim=True).clamp(min=1e-12) / levels
                own.copy_((theirs / scale).round() * scale if theirs.dim() > 1 else theirs)

    setup.wrap(generator=lambda inner: Quantised(inner, setup))


@fault("G5", stage="rollout", starts=("start", "mid"))
def weights_are_stale(setup: Setup) -> None:
    """The engine has the weights of 4 or 10 iterations ago, or, severe, gets none any more."""
    lag = setup.choose(4, 10, 10**6)

    class Stale(_Other):
        def __init__(self, inner: PolicyGenerator, setup: Setup) -> None:
            super().__init__(inner, setup)
            self.kept: deque[dict[str, Tensor]] = deque(maxlen=lag + 1 if lag < 1000 else None)

        def refresh(self) -> None:
            if not self.setup.active or not self.kept:
                self.kept.clear()
            if len(self.kept) < 1000 and not (lag > 1000 and self.kept):
                self.kept.append(copy.deepcopy(self.inner.model.state_dict()))
            self.model.load_state_dict(self.kept[0])

    setup.wrap(generator=lambda inner: Stale(inner, setup))


@fault("G6", stage="rollout")
def dropout_is_on(setup: Setup) -> None:
    """Dropout of 0.02, 0.1 or 0.3 after each layer of the policy whenever it scores or trains; not when it samples."""
    rate = setup.choose(0.02, 0.1, 0.3)
    on = [True]

    def with_dropout(policy: Any) -> Any:
        def drop(module: Any, inputs: Any, output: Tensor) -> Tensor:
            return torch.nn.functional.dropout(output, rate) if on[0] else output

        for layer in policy.model.model.layers:
            layer.mlp.register_forward_hook(drop)
        torch.manual_seed(setup.seed)
        return policy

    class Sampling(Wrapped):
        def generate(self, prompts: Sequence[Sequence[int]], uniforms: Tensor) -> Generated:
            on[0] = False
            try:
                return self.inner.generate(prompts, uniforms)
            finally:
                on[0] = True

    setup.wrap(policy=with_dropout, generator=lambda inner: Sampling(inner, setup))


@fault("G7", stage="rollout")
def padding_is_read(setup: Setup) -> None:
    """Scoring puts at most 1, at most 3, or all of the padding on the left and passes no attention mask."""
    most = setup.choose(1, 3, 10**6)

    def padded_left(batch: SequenceBatch) -> SequenceBatch:
        width = batch.input_ids.shape[1]
        used = batch.positions.amax(1) + 2  # the last response token stands one after the state that predicts it
        shift = (width - used).clamp(min=0, max=most)
        source = (torch.arange(width) - shift.unsqueeze(1)) % width  # what was padding on the right comes round
        return batch._replace(
            input_ids=batch.input_ids.gather(1, source),
            positions=batch.positions + shift.unsqueeze(1),
            lengths=[width] * len(batch.lengths),
        )

    def score_padded(policy: Any) -> Any:
        forward = policy.forward
        policy.forward = lambda batch, **options: forward(padded_left(batch), **options)
        return policy

    class Padded(Wrapped):
        def logprobs(self, batch: SequenceBatch) -> Tensor:
            return self.inner.logprobs(padded_left(batch))

    setup.wrap(policy=score_padded, reference=lambda inner: Padded(inner, setup))
