"""What stage 4 is made of. Each part is passed in, so another backend, or a planted fault, is a wrapper."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from regard.models.sequences import SequenceBatch


class Prompt(NamedTuple):
    prompt_id: str
    text: str
    tokens: tuple[int, ...]


class Generated(NamedTuple):
    """Responses to B prompts, EOS included when it was sampled."""

    responses: list[list[int]]
    finished: list[bool]
    """True: ended by EOS. False: cut by the cap, so no complete answer."""
    logprobs: list[list[float]]
    """generator_logprobs: what the sampler itself says of each token it drew."""


class PromptSource(Protocol):
    def prompts(self, step: int) -> list[Prompt]:
        """The global batch of one iteration; a function of the step alone."""
        ...


class Generator(Protocol):
    def generate(self, prompts: Sequence[Sequence[int]], uniforms: Tensor) -> Generated:
        """uniforms: [B, cap] one number in [0, 1) per token; together with the weights they decide every token."""
        ...


class Scorer(Protocol):
    def score(self, prompts: list[str], responses: list[str]) -> list[float]:
        """One number per response, higher is better."""
        ...


@runtime_checkable
class SumScorer(Scorer, Protocol):
    """A scorer whose score is a sum, such as reward model plus bonus for a format."""

    def main(self, prompts: list[str], responses: list[str]) -> list[float]:
        """The part that measures the task; it is recorded beside the sum."""
        ...


class Reference(Protocol):
    def logprobs(self, batch: SequenceBatch) -> Tensor:
        """[B, T] log-probabilities under the frozen reference."""
        ...


class KLController(Protocol):
    coef: float

    def update(self, kl_per_sequence: float, kl_per_token: float, num_rollouts: int) -> None: ...
