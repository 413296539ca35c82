"""The sizes of a decoder, from its configuration alone, and what follows from them: weights, operations, bytes kept.

Nothing here needs torch, so a run can be planned where it cannot be made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ONE_STREAM = ("llama", "mistral", "qwen2", "qwen3")
"""Models of which block k needs nothing but the output of block k − 1: no scaled embeddings, no second stream."""


SHORT = 128
"""Tokens of a sequence up to which attention in bfloat16 is our own."""


FEW, MANY = 8, 128
"""Rows of a batch and tokens of a sequence are filled up to multiples of the one, tokens of all sequences to multiples
of the other: of each new shape of a product oneDNN makes a kernel and keeps it, in a run of `tiny` 0.6 GB."""


MANY_WEIGHTS = 20_000_000
"""Beyond this many trained weights a copy per iteration costs more than the norm of the update tells, and to get memory
from the system again, a fifth of a second a gigabyte, costs less than to hold it while it is not used."""


def filled(number: int, step: int) -> int:
    """The next multiple of `step`."""
    return -(-number // step) * step


def logits_chunk(vocabulary: int) -> int:
    """Tokens whose logits are alive at once: the fewer, the larger the vocabulary is, so that memory stays the same."""
    chunk = 2**24 // vocabulary
    return max(1, chunk // MANY * MANY or chunk)


@dataclass(frozen=True)
class Sizes:
    """Of a Llama-like decoder."""

    hidden: int
    intermediate: int
    queries: int
    """Width of all query heads together."""
    keys: int
    """Width of all key heads together; values have as much."""
    layers: int
    vocabulary: int
    tied: bool = True
    """Whether the output embedding is the input embedding."""

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> "Sizes":
        """From what `config.json` of the model says.

        Raises:
            ValueError: a model whose blocks are not made as those of a Llama, or a width that is missing.
        """
        if config.get("model_type") not in ONE_STREAM:
            raise ValueError(f"the products of a {config.get('model_type')} are not known")
        try:
            heads = config["num_attention_heads"]
            width = config.get("head_dim") or config["hidden_size"] // heads
            keys = config.get("num_key_value_heads") or heads
            return cls(
                hidden=config["hidden_size"],
                intermediate=config["intermediate_size"],
                queries=heads * width,
                keys=keys * width,
                layers=config["num_hidden_layers"],
                vocabulary=config["vocab_size"],
                tied=bool(config.get("tie_word_embeddings")),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"the configuration does not say how large the model is ({error})") from error

    @property
    def block(self) -> int:
        """Weights of the linear layers of a block."""
        return self.hidden * (2 * self.queries + 2 * self.keys + 3 * self.intermediate)

    @property
    def weights(self) -> int:
        """All of them: blocks, norms and embeddings."""
        embeddings = (1 if self.tied else 2) * self.vocabulary * self.hidden
        return self.layers * (self.block + 2 * self.hidden) + embeddings + self.hidden

    def adapters(self, rank: int) -> int:
        """Weights of the adapters of a block: for each of its seven linear layers, rank·(inputs + outputs)."""
        attention = 2 * (self.hidden + self.queries) + 2 * (self.hidden + self.keys)
        return rank * (attention + 3 * (self.hidden + self.intermediate))

    def blocks(self, lengths: Sequence[int], number: int | None = None) -> float:
        """Operations of a forward pass of sequences of these lengths through so many blocks, all if not said."""
        tokens, pairs = sum(lengths), sum(n * (n + 1) / 2 for n in lengths)
        return (self.layers if number is None else number) * (2 * self.block * tokens + 4 * self.queries * pairs)

    def logits(self, tokens: float) -> float:
        """Operations that make the logits of so many tokens."""
        return 2.0 * self.hidden * self.vocabulary * tokens


@dataclass(frozen=True)
class Phases:
    """What one iteration of stage 4 has to compute.

    Attributes:
        below: frozen first blocks, which policy and reference share.
        backward: forward passes that a backward pass costs: 2, or 1 where the weights are frozen and adapters trained.
        value_body: whether the value has a body of its own.
    """

    policy: Sizes
    scorer: Sizes | None
    below: int
    backward: int
    value_body: bool

    def operations(
        self, prompts: Sequence[int], answered: Sequence[int], distinct: Sequence[int], epochs: int
    ) -> dict[str, float]:
        """Needed operations by phase.

        Args:
            prompts: the length of each row's prompt, and `answered` of its response.
            distinct: the lengths of the prompts that differ; a group's prompt is computed once.
        """
        lengths = [prompt + n for prompt, n in zip(prompts, answered, strict=True)]
        every, once = self.policy.blocks(prompts), self.policy.blocks(distinct)
        whole, head = self.policy.blocks(lengths), self.policy.logits(sum(answered))
        above = self.policy.blocks(lengths, self.policy.layers - self.below)
        bodies = 2 if self.value_body else 1
        scored = self.scorer.blocks(lengths) if self.scorer is not None else 0.0
        reference = above if self.backward == 1 else whole
        return {
            "rollout": whole - every + once + head,
            "score": whole + (bodies - 1) * above + reference + 2 * head + scored,
            "update": epochs * (1 + self.backward) * (bodies * above + head),
        }
