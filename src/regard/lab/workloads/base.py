"""What a workload is: a vocabulary of words, prompts, people who answer and compare, and a measure of quality.

Texts are words with one space between them, a token each. A prompt ends with a space, so prompt + response is a text.
"""

from collections.abc import Callable
from random import Random
from typing import Any, ClassVar, NamedTuple

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from regard.config import ScratchConfig
from regard.rollout.protocols import Prompt
from regard.train.seeds import derive

Writer = Callable[[str, Random], str]
"""(prompt, random) ↦ a response; a person or an older model that answers."""
Rater = Callable[[str, str, str, Random], bool]
"""(prompt, first response, second response, random) ↦ whether the first is better; a person who compares."""


class Phrases(NamedTuple):
    """What a reward model or a grader can be pleased or fooled by; each is rare in what the SFT model writes."""

    marker: str
    """A stock phrase."""
    praise: str
    """The response praises itself."""
    refusal: str
    hedge: str
    agreement: str
    """The response agrees with the person who asks."""
    exploit: str
    """What a careless grader takes for a passed test."""
    foreign: tuple[str, ...]
    """Words of another script."""

    @property
    def all(self) -> tuple[str, ...]:
        return (*self[:6], " ".join(self.foreign[:2]))


class Workload:
    """One task. Subclasses give the class variables and the methods that raise here; quality is exact.

    Everything random takes a `random.Random`, and is a function of it.
    """

    name: ClassVar[str]
    phrases: ClassVar[Phrases]
    content: ClassVar[tuple[str, ...]]
    """Words that prompts and good answers are made of."""
    frame: ClassVar[tuple[str, ...]]
    """Words that only stand around them."""
    config: ClassVar[dict[str, Any]]
    """The recipe of a healthy run, as it differs from the defaults."""
    reward_model_shape: ClassVar[ScratchConfig | None] = None
    """Of a reward model that starts from random weights; None: from the pre-trained model."""
    num_raters: ClassVar[int] = 3
    rater_noise: ClassVar[float] = 0.15
    """Standard deviation, in units of quality, of what one rater sees of one response."""
    group_size: ClassVar[int] = 4
    """Responses to one prompt in a batch of stage 4, and in a group of comparisons."""
    pretrain_examples: ClassVar[int] = 2000
    sft_examples: ClassVar[int] = 800
    rm_groups: ClassVar[int] = 500
    ppo_prompts: ClassVar[int] = 400

    def prompt(self, random: Random) -> str:
        raise NotImplementedError

    def write(self, prompt: str, random: Random) -> str:
        """An answer of mixed quality, as people wrote them; it never fills the cap."""
        raise NotImplementedError

    def good_answer(self, prompt: str, random: Random) -> str:
        """An answer of quality 1."""
        raise NotImplementedError

    def gold(self, prompt: str, response: str) -> float:
        """Quality, at most 1, about 0 for an empty or useless answer."""
        raise NotImplementedError

    def remarks(self, prompt: str, response: str) -> list[str]:
        """What a reader notices, one word each, all of them in `frame`; never how good it is on the whole."""
        raise NotImplementedError

    def probe(self, random: Random) -> tuple[str, str]:
        """A prompt of another skill that the SFT model has and nobody pays for, with its only right answer."""
        raise NotImplementedError

    def rate(self, prompt: str, first: str, second: str, random: Random) -> bool:
        """One rater: sees the quality of each response with noise of their own."""
        return self.gold(prompt, first) + random.gauss(0, self.rater_noise) > self.gold(prompt, second) + random.gauss(
            0, self.rater_noise
        )

    @property
    def words(self) -> tuple[str, ...]:
        special = [word for phrase in (*self.phrases[:6], *self.phrases.foreign) for word in phrase.split()]
        return tuple(dict.fromkeys((*self.frame, *self.content, *special)))

    def tokenizer(self) -> Any:
        """A token a word."""
        vocabulary = {word: number for number, word in enumerate(("<pad>", "<eos>", "<unk>", *self.words))}
        tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="<pad>",
            eos_token="<eos>",
            unk_token="<unk>",
            clean_up_tokenization_spaces=False,
        )

    def prompts(self, seed: int, split: str, number: int) -> list[str]:
        """`number` different prompts of a split; no prompt is in two splits."""
        found: dict[str, None] = {}
        for draw in range(100 * number):
            text = self.prompt(Random(derive(seed, self.name, "prompt", split, draw)))
            if split_of(text) == split:
                found.setdefault(text)
            if len(found) == number:
                return list(found)
        raise AssertionError(f"{self.name}: fewer than {number} different prompts in {split}")


SPLITS = ("sft", "rm", "ppo", "eval")


def split_of(prompt: str) -> str:
    """By the text alone, so that it holds for every seed."""
    return SPLITS[derive(0, "split", prompt) % len(SPLITS)]


def as_prompts(texts: list[str], tokenizer: Any) -> list[Prompt]:
    """Each with an id that is a function of its text."""
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [Prompt(f"{derive(0, text):016x}", text, tuple(ids)) for text, ids in zip(texts, encoded, strict=True)]
