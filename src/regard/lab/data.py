"""The data of a lab run: examples, comparisons and prompts, each a function of workload, seed and setup."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from random import Random
from typing import Any

from regard.data.comparisons import Comparison
from regard.lab.setup import Clock, Setup
from regard.lab.workloads.base import Workload, as_prompts
from regard.rollout.protocols import Prompt
from regard.train.corpus import Example, RewardData
from regard.train.seeds import batch_rows

PROBE_SHARE = 0.15
"""Of the examples of either stage; the rest are of the task."""
NUM_PROBES = 48
EVAL_GROUPS = 40
"""Groups of comparisons in the dev and in the test split, each."""


def pretrain_examples(setup: Setup, tokenizer: Any) -> list[Example]:
    """Text of the world before anyone wished for anything: a quarter of the answers is to another prompt, and after
    the end of each stands what a reader noticed. Reward models start from here, and would else take minutes to notice
    anything."""
    workload, random = setup.workload, setup.random("pretrain")
    prompts = workload.prompts(setup.seed, "sft", workload.sft_examples)
    ids_of = tokenizer.get_vocab()
    examples: list[Example] = []
    for _ in range(workload.pretrain_examples):
        prompt = random.choice(prompts)
        if random.random() < PROBE_SHARE:
            examples += _examples([workload.probe(random)], tokenizer, whole=True)
            continue
        asked = prompt if random.random() < 0.75 else random.choice(prompts)
        text = workload.write(asked, random)
        (example,) = _examples([(prompt, text)], tokenizer, whole=True)
        remark = ids_of[random.choice(workload.remarks(prompt, text))]
        examples.append(example._replace(response=(*example.response, remark)))
    return examples


def sft_examples(setup: Setup, tokenizer: Any) -> list[Example]:
    workload, random = setup.workload, setup.random("sft")
    prompts = workload.prompts(setup.seed, "sft", workload.sft_examples)
    texts = [(prompt, setup.writer(prompt, random)) for prompt in prompts]
    examples = _examples(_with_probes(texts, workload, random), tokenizer, whole=False)
    for change in setup.examples_hooks:
        examples = change(examples)
    return examples


def _with_probes(texts: list[tuple[str, str]], workload: Workload, random: Random) -> list[tuple[str, str]]:
    return [workload.probe(random) if random.random() < PROBE_SHARE else text for text in texts]


def _examples(texts: list[tuple[str, str]], tokenizer: Any, *, whole: bool) -> list[Example]:
    """`whole`: the prompt's words are learned too."""
    ids_of = tokenizer.get_vocab()
    examples: list[Example] = []
    for prompt, response in texts:
        asked, answered = ([ids_of[word] for word in text.split()] for text in (prompt, response))
        ids = [*asked, *answered, tokenizer.eos_token_id]
        cut = 1 if whole else len(asked)
        examples.append(Example(tuple(ids[:cut]), tuple(ids[cut:])))
    return examples


def probes(setup: Setup, tokenizer: Any) -> list[Example]:
    random = setup.random("probe")
    return _examples([setup.workload.probe(random) for _ in range(NUM_PROBES)], tokenizer, whole=False)


def reward_data(setup: Setup) -> RewardData:
    """Groups of answers to one prompt, each pair judged by every rater; `kept` are the test pairs as quality says."""
    workload = setup.workload
    sizes = {"train": workload.rm_groups, "dev": EVAL_GROUPS, "test": EVAL_GROUPS}
    prompts = workload.prompts(setup.seed, "rm", sum(sizes.values()))
    parts: dict[str, list[Comparison]] = {}
    for split, size in sizes.items():
        groups, prompts = prompts[:size], prompts[size:]
        parts[split] = [pair for number, prompt in enumerate(groups) for pair in _group(setup, prompt, split, number)]
    kept = [_trusted(pair, workload) for pair in parts["test"]]
    data = RewardData(**parts, kept=kept, blocks={})
    for change in setup.reward_data_hooks:
        data = change(data)
    return data


def _group(setup: Setup, prompt: str, split: str, number: int) -> list[Comparison]:
    workload, random = setup.workload, setup.random("rm", split, number)
    answers = [setup.pair_writer(prompt, random) for _ in range(workload.group_size)]
    return [
        judge(prompt, first, second, setup, random, f"{split}-{number:04d}")
        for first, second in combinations(dict.fromkeys(answers), 2)
    ]


def judge(prompt: str, first: str, second: str, setup: Setup, random: Random, group: str) -> Comparison:
    """The comparison that the raters' votes make."""
    raters = setup.workload.num_raters
    wins = sum(setup.rater(prompt, first, second, random) for _ in range(raters))
    pair = Comparison(
        prompt=prompt,
        chosen=first,
        rejected=second,
        p_chosen=wins / raters,
        num_raters=raters,
        num_ties=0,
        rater_ids=(),
        margin=None,
        group=group,
        source=setup.workload.name,
    )
    return pair if pair.p_chosen >= 0.5 else pair.swap()


def _trusted(pair: Comparison, workload: Workload) -> Comparison:
    gap = workload.gold(pair.prompt, pair.chosen) - workload.gold(pair.prompt, pair.rejected)
    if gap < 0:
        pair = pair.swap()
    tie = gap == 0
    return replace(pair, p_chosen=0.5 if tie else 1.0, num_raters=1, num_ties=int(tie), margin=abs(gap))


def ppo_prompts(setup: Setup, tokenizer: Any) -> list[Prompt]:
    workload = setup.workload
    pool = as_prompts(workload.prompts(setup.seed, "ppo", workload.ppo_prompts), tokenizer)
    for change in setup.prompts_hooks:
        pool = change(pool)
    return pool


def eval_prompts(setup: Setup, tokenizer: Any) -> list[Prompt]:
    return as_prompts(setup.workload.prompts(0, "eval", setup.get("eval.num_prompts")), tokenizer)


class GroupedPrompts:
    """PromptSource: a few prompts an iteration, each several times; and the hand that sets the clock."""

    def __init__(self, pool: list[Prompt], batch_size: int, group_size: int, seed: int, clock: Clock) -> None:
        self.pool, self.batch_size, self.group_size, self.seed = pool, batch_size, group_size, seed
        self.clock = clock

    def prompts(self, step: int) -> list[Prompt]:
        self.clock.step = step
        number = -(-self.batch_size // self.group_size)
        rows = batch_rows(step, number, len(self.pool), self.seed, "prompts")
        return [self.pool[row] for row in rows for _ in range(self.group_size)][: self.batch_size]


class ExactJudge:
    """Scorer: the workload's own measure of quality."""

    def __init__(self, gold: Callable[[str, str], float]) -> None:
        self.gold = gold

    def score(self, prompts: list[str], responses: list[str]) -> list[float]:
        return [self.gold(prompt, response) for prompt, response in zip(prompts, responses, strict=True)]
