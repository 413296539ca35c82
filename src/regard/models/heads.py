"""Scalar heads on a decoder body: the value function and the reward model."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from regard.errors import ConfigError
from regard.models.checkpoints import replace_directory, whole_or_nothing
from regard.models.loading import load_causal, save_causal
from regard.models.sequences import last_hidden

HEAD_FILE = "reward_head.safetensors.head"
"""Safetensors by content; the ending keeps it apart from the body's weights, which loaders find by theirs."""


class ScalarHead(nn.Module):
    """h ↦ w·h + b in float32; starts at zero, so the first predictions are 0 whatever the body says."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.linear(hidden.to(self.linear.weight.dtype)).squeeze(-1)


def leave_out_language_head(model: Any) -> None:
    """Nobody reads the logits of a model with a scalar head: an output embedding of its own is not trained, and has no
    gradient and no moments."""
    output = model.get_output_embeddings()
    if output is not None and output.weight is not model.get_input_embeddings().weight:
        output.weight.requires_grad_(False)


TEXTS_PER_PASS = 30
"""A block of ratings."""


class RewardModel(nn.Module):
    """r(x, y) = w·h_EOS + b with a text interface: it tokenises prompt + response itself and appends its own EOS.

    Policy and reward model may therefore have different tokenizers. `score` gives centred scores: the mean raw score
    of SFT samples is subtracted, since only differences of scores mean anything.
    """

    def __init__(self, model: Any, tokenizer: Any, max_text_tokens: int) -> None:
        super().__init__()
        leave_out_language_head(model)
        self.model = model
        self.tokenizer = tokenizer
        self.head = ScalarHead(model.config.hidden_size)
        self.max_text_tokens = max_text_tokens
        self.center = 0.0
        self.deviation = 1.0

    def encode(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text with EOS; a text over the limit loses its beginning, never its end."""
        rows: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        return [[*ids[-(self.max_text_tokens - 1) :], self.tokenizer.eos_token_id] for ids in rows]

    def raw_scores(self, texts: list[str], texts_per_pass: int = TEXTS_PER_PASS) -> Tensor:
        """[B] uncentred scores, differentiable."""
        return self.scores_of(self.encode(texts), texts_per_pass)

    def scores_of(self, encoded: list[list[int]], texts_per_pass: int = TEXTS_PER_PASS) -> Tensor:
        """`raw_scores` of token ids. Texts of similar length share a forward pass, so that attention computes little
        padding."""
        order = sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), i))
        scores = [
            self.head(last_hidden(self.model, [encoded[i] for i in order[start : start + texts_per_pass]]))
            for start in range(0, len(order), texts_per_pass)
        ]
        place = torch.empty(len(order), dtype=torch.long)
        place[torch.tensor(order, dtype=torch.long)] = torch.arange(len(order))
        return torch.cat(scores)[place]

    @torch.no_grad()
    def score(self, prompts: list[str], responses: list[str], micro_batch_size: int = 64) -> list[float]:
        """Centred scores of prompt + response."""
        texts = [p + r for p, r in zip(prompts, responses, strict=True)]
        return [score - self.center for score in self.raw_scores(texts, micro_batch_size).tolist()] if texts else []

    def save(self, path: Path, merged_model: Any) -> None:
        temporary = path.with_name(path.name + ".partial-rm")
        save_causal(merged_model, self.tokenizer, temporary)
        facts = {"center": self.center, "deviation": self.deviation, "max_text_tokens": self.max_text_tokens}
        with whole_or_nothing(temporary, path):
            head = {name: tensor.contiguous() for name, tensor in self.head.state_dict().items()}
            save_file(head, temporary / HEAD_FILE)
            (temporary / "reward_model.json").write_text(json.dumps(facts), encoding="utf-8")
            replace_directory(temporary, path)

    @classmethod
    def load(cls, path: Path, dtype: torch.dtype) -> "RewardModel":
        """Raises ConfigError if `path` holds no reward model."""
        facts = path / "reward_model.json"
        if not facts.is_file():
            raise ConfigError(f"{path}: no reward model here. Run the rm stage first: regard train rm.")
        model, tokenizer = load_causal(str(path), dtype)
        saved = json.loads(facts.read_text(encoding="utf-8"))
        reward_model = cls(model, tokenizer, saved["max_text_tokens"])
        reward_model.head.load_state_dict(load_file(path / HEAD_FILE))
        reward_model.center, reward_model.deviation = saved["center"], saved["deviation"]
        return reward_model.eval().requires_grad_(False)
