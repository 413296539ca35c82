"""What people labelled and wrote, and the prompts."""

from random import Random

from regard.lab.data import eval_prompts
from regard.lab.faults import fault
from regard.lab.setup import Setup, Wrapped
from regard.rollout.protocols import Prompt
from regard.train.corpus import Example
from regard.train.seeds import derive


@fault("D1", stage="data")
def preference_label_noise(setup: Setup) -> None:
    """Each vote says the opposite with probability 0.15, 0.3 or 0.42."""
    share, rate = setup.choose(0.15, 0.3, 0.42), setup.rater

    def careless(prompt: str, first: str, second: str, random: Random) -> bool:
        return rate(prompt, first, second, random) != (random.random() < share)

    setup.rater = careless


@fault("D2", stage="data")
def flipped_preferences(setup: Setup) -> None:
    """Chosen and rejected are swapped for 75 %, 90 % or all of the prompts."""
    share, rate = setup.choose(0.75, 0.9, 1.0), setup.rater

    def swapped(prompt: str, first: str, second: str, random: Random) -> bool:
        of_prompt = Random(derive(setup.seed, "swapped", prompt)).random()
        return rate(prompt, first, second, random) != (of_prompt < share)

    setup.rater = swapped


@fault("D3", stage="data")
def duplicated_prompts(setup: Setup) -> None:
    """The file of prompts holds 60, 30 or 12 different ones again and again; severe: half held-out ones."""
    number = setup.choose(60, 30, 12)

    def repeat(pool: list[Prompt]) -> list[Prompt]:
        kept = pool[:number]
        if setup.severity == "severe":
            kept = kept[: number // 2] + eval_prompts(setup, setup.workload.tokenizer())[: number // 2]
        return [kept[row % len(kept)] for row in range(len(pool))]

    setup.on_prompts(repeat)


@fault("D4", stage="data")
def prompts_out_of_reach(setup: Setup) -> None:
    """A grader that passes or fails, with a mark that 8 %, 3 % or 0.5 % of what people write reaches."""
    share, gold, random = setup.choose(0.08, 0.03, 0.005), setup.workload.gold, setup.random("mark")
    prompts = setup.workload.prompts(setup.seed, "sft", 400)
    ranked = sorted((gold(prompt, setup.workload.write(prompt, random)) for prompt in prompts), reverse=True)
    above = ranked[int(share * len(ranked))]  # at most this share is better

    class PassOrFail(Wrapped):
        deviation = 1.0

        def score(self, prompts: list[str], responses: list[str]) -> list[float]:
            return [float(gold(prompt, text) > above) for prompt, text in zip(prompts, responses, strict=True)]

    setup.wrap(scorer=lambda inner: PassOrFail(inner, setup))


@fault("D5", stage="data")
def prompt_format_mismatch(setup: Setup) -> None:
    """Prompts of stage 4 lack the separator they had in SFT; medium: and begin with EOS; severe: and end with two."""
    end = [setup.workload.tokenizer().eos_token_id]
    before, after = setup.choose(([], []), (end, []), (end, end * 2))

    def render(prompt: Prompt) -> Prompt:
        text = " ".join([*prompt.text.split()[:-1], ""])
        return prompt._replace(text=text, tokens=(*before, *prompt.tokens[:-1], *after))

    setup.on_prompts(lambda pool: [render(prompt) for prompt in pool])


@fault("D6", stage="sft")
def policy_overfitted_before_stage_4(setup: Setup) -> None:
    """SFT goes over 120, 40 or 12 examples for as many steps as it would over all; the held-out ones stay."""
    number = setup.choose(120, 40, 12)

    def repeat(examples: list[Example]) -> list[Example]:
        held_out = max(8, len(examples) // 10)
        few = examples[held_out : held_out + number]
        return examples[:held_out] + [few[row % number] for row in range(len(examples) - held_out)]

    setup.on_examples(repeat)
