"""Causes in the labels, the prompts, their format, and in the model that SFT makes."""

from regard.review.causes import ALWAYS, HACKED, HACKS, OFTEN, SOMETIMES, USUALLY, Cause, Change

_AFTER = (
    "gold-falls-as-score-rises", "RWD001", "RWD018", "score-parts-from-gold", "skill-lost", "RWD004",
    "pooled-variety-lost", "repetition-surge",
)  # fmt: skip
CLIMBED = dict.fromkeys(_AFTER, SOMETIMES)
"""What may follow from any score that is not quality: the policy climbs it, and quality and variety fall."""
NOTHING_TO_GAIN = {
    "leash-short": SOMETIMES,
    "kl-stays-near-zero": SOMETIMES,
    "score-does-not-gain": SOMETIMES,
    "gain-within-noise": OFTEN,
}
"""What may follow from a score that spreads little, since it hardly ranks: the same coefficient holds more firmly."""

CAUSES = (
    Cause(
        id="D1",
        name="preference-label-noise",
        title="Many comparisons are labelled wrong",
        stage="data",
        since="start",
        layman="The people or the model who judged the answers often picked the worse one, so the taste that the run "
        "learns is blurred.",
        what="A share of the labels is as good as random: raters in a hurry, near-ties that had to be decided, a judge "
        "model with habits. With a share η of symmetric noise even a perfect reward model is right on 1 - η of the "
        "labels only, and the one that is learned is weaker than the pairs would allow.",
        predicts={
            **HACKED,
            "raters-disagree": ALWAYS,
            "RMD003": ALWAYS,
            "reward-model-weak": SOMETIMES,
            "labels-below-trusted": USUALLY,
            "RMD001": SOMETIMES,
            "RMD002": SOMETIMES,
            "training-accuracy-far-above-held-out": SOMETIMES,
            **NOTHING_TO_GAIN,
            **CLIMBED,
        },
        decided_by=("raters-disagree", "labels-below-trusted"),
        look_alikes={
            "R1": "There two raters agree, and the reward model still cannot rank; more pairs help.",
            "R2": "There an earlier checkpoint is good; noise leaves a ceiling at every checkpoint.",
            "D2": "There accuracy on trusted pairs is below one half; noise leaves it above.",
        },
        changes=(
            Change("data.comparisons", "pairs labelled twice, those that the raters dispute left out or labelled anew"),
            Change("rm.epochs", 1.0),
        ),
        why="A reward model is no better than the labels it ranks by; where two raters disagree there is nothing to "
        "learn, and what is learned there is noise that the policy will find.",
        would_overturn="Two raters agree on more than 0.7 of a fresh sample of the pairs.",
        leads_to=("R4", "K2", *HACKS),
        passes_for=("R2", "R3"),
        references="Coste et al. 2023 (arXiv 2310.02743); Wang et al. 2024 (arXiv 2401.06080); Stiennon et al. 2020 "
        "(arXiv 2009.01325).",
    ),
    Cause(
        id="D2",
        name="flipped-preference",
        title="Good and bad are swapped",
        stage="data",
        since="start",
        layman="Good and bad got swapped, so the model is trained with care to be as bad as it can.",
        what="Chosen and rejected stand in each other's column, a label is encoded the other way round, or the score "
        "has "
        "a minus sign. The score rises from the first updates and quality falls from the first updates.",
        predicts={
            **HACKED,
            "score-against-gold-at-start": ALWAYS,
            "RWD011": ALWAYS,
            "trusted-accuracy-below-half": USUALLY,
            "RMD004": USUALLY,
            "reward-model-weak": USUALLY,
            "score-worse-than-its-test": SOMETIMES,
            "RWD013": SOMETIMES,
            **CLIMBED,
            "gold-falls-as-score-rises": USUALLY,
            "RWD001": USUALLY,
            "RWD018": ALWAYS,
            "RMD008": SOMETIMES,
            "accuracy-far-below-raters": SOMETIMES,
        },
        decided_by=("score-against-gold-at-start", "trusted-accuracy-below-half"),
        look_alikes={
            "H1": "There score and judge agree at the start and part later; here they oppose before any update.",
            "D1": "There accuracy on trusted pairs is near one half, not below it.",
            "G8": "A broken grader says nothing of quality; it does not say the opposite.",
        },
        changes=(
            Change("data.comparisons", "the file with chosen and rejected exchanged"),
            Change("code.score", "the score without its minus sign"),
        ),
        why="The sign of the preference is the whole of what the reward model learns.",
        would_overturn="On 20 pairs chosen by hand the reward model prefers the good answer.",
        leads_to=("A1", "R1", *HACKS),
        references="Ziegler et al. 2019 (arXiv 1909.08593), section 4.4.",
    ),
    Cause(
        id="D3",
        name="duplicated-or-leaked-prompts",
        title="Prompts repeat, or held-out prompts were trained on",
        stage="data",
        since="start",
        layman="The same questions come again and again, or the exam questions were in the homework.",
        what="A file was upsampled and used as if every row were new, or data were split by row, so that one prompt is "
        "in training and in evaluation. The policy learns a few prompts by heart, and a leaked evaluation praises it.",
        predicts={
            "prompts-repeat-in-a-step": ALWAYS,
            "few-different-prompts": ALWAYS,
            "DAT001": ALWAYS,
            "eval-prompts-in-training": SOMETIMES,
            "DAT002": SOMETIMES,
            "kl-uneven-over-prompts": SOMETIMES,
            "pooled-variety-lost": SOMETIMES,
            "skill-lost": SOMETIMES,
        },
        decided_by=("prompts-repeat-in-a-step", "few-different-prompts", "eval-prompts-in-training"),
        look_alikes={
            "R2": "There held-out pairs are ranked worse than training pairs; with a leak both look good, and only "
            "fresh "
            "prompts show the gap.",
            "M2": "Another judge does not remove a leak; other prompts do.",
        },
        changes=(
            Change("data.prompts", "the same prompts, each once, split by prompt before anything else"),
            Change("eval.num_prompts", "a fresh set of prompts"),
        ),
        why="What is measured on prompts that were trained on says nothing about others.",
        would_overturn="Every row of the prompt file is a different prompt, and none of them is held out.",
        leads_to=("R2", "M2"),
        references="DAPO-Math-17k: 1,791,700 rows are 17,917 prompts.",
    ),
    Cause(
        id="D4",
        name="prompts-outside-the-learnable-band",
        title="The prompts are all too hard or all too easy",
        stage="data",
        since="start",
        layman="Every try at a question gets the same mark, so nothing can be learned from comparing tries.",
        what="The policy passes nearly none of the prompts, or nearly all, and the reward is coarse. All responses of "
        "a "
        "group then have one score, and a group-centred advantage is 0. With pass rate p and n responses the expected "
        "share of such groups is p^n + (1 - p)^n.",
        predicts={
            "score-depends-on-prompt": USUALLY,
            "RWD015": USUALLY,
            "dead-groups-from-the-start": ALWAYS,
            "dead-groups-differ-in-text": ALWAYS,
            "DAT004": ALWAYS,
            "POL003": USUALLY,
            "score-deviation-off": OFTEN,
            "RWD012": OFTEN,
            "score-deviation-jumps": SOMETIMES,
        },
        decided_by=("dead-groups-from-the-start", "dead-groups-differ-in-text"),
        look_alikes={
            "G8": "There right answers are marked as wrong: mark 20 of them by hand.",
            "E1": "There the texts of a group are the same, not only their scores.",
            "G2": "There answers are cut, and those that end get other scores.",
            "P2": "There gradients are not zero.",
        },
        changes=(
            Change("data.prompts", "prompts that the initial policy passes between 10 % and 90 % of the time"),
            Change("code.reward", "a reward with steps between nothing and all"),
            Change("code.group_size", "twice as many responses a prompt",
                   {"trl": "num_generations", "verl": "actor_rollout_ref.rollout.n"}),
        ),
        why="Only groups whose responses differ in score say which response was better.",
        would_overturn="Marked by hand, many of the answers that got no point are right.",
        leads_to=("P8",),
        references="Yu et al. 2025, DAPO (arXiv 2503.14476).",
    ),
    Cause(
        id="D5",
        name="prompt-format-mismatch",
        title="Stage 4 writes its prompts in another format than SFT or the reward model",
        stage="data",
        since="start",
        layman="The model was taught with one letter-head and is examined with another.",
        what="Another chat template or system prompt, a begin-of-text token twice or not at all, a space after the "
        "prompt, or raw text for a reward model that was trained on templated text. The policy starts off its "
        "distribution, and the score is of something it has never seen.",
        predicts={
            "prompt-format-differs-from-sft": ALWAYS,
            "DAT003": ALWAYS,
            "separator-in-responses": ALWAYS,
            "longer-than-sft-answers": SOMETIMES,
            "less-sure-than-after-sft": SOMETIMES,
            "score-worse-than-its-test": SOMETIMES,
            "RWD013": SOMETIMES,
            "TXT001": SOMETIMES,
            "surer-than-right-after-sft": SOMETIMES,
        },
        decided_by=("prompt-format-differs-from-sft",),
        look_alikes={
            "G1": "There the share of ended responses stays low with SFT's own format too.",
            "R6": "There a score changes with padding; here it does not.",
            "D6": "There the SFT model is poor with its own format; here it is good with it.",
        },
        changes=(
            Change("code.template", "one function that renders prompts in every stage",
                   {"trl": "chat_template_path"}),
        ),
        why="A model answers the tokens it gets; SFT and the reward model know one format only.",
        would_overturn="The token ids of a rendered prompt are the same in every stage.",
        leads_to=("R7", "G1", "K2"),
        references="Huang et al. 2024 (arXiv 2403.17031).",
    ),
    Cause(
        id="D6",
        name="bad-sft-start",
        title="SFT was too short, or went on until it knew its examples by heart",
        stage="SFT",
        since="start",
        layman="The student is too weak to ever find a good answer, or so drilled that it knows only one.",
        what="Too few steps or the wrong texts leave a policy that never samples something worth a reward. Too many "
        "epochs leave one that is sure of itself and samples the same answer again and again, so that there is nothing "
        "to select from.",
        predicts={
            "SFT001": USUALLY,
            "surer-than-right-after-sft": USUALLY,
            "sft-barely-trained": SOMETIMES,
        },
        decided_by=("SFT001", "surer-than-right-after-sft", "sft-barely-trained"),
        look_alikes={
            "E1": "There entropy is high at the start and falls; here it is low from the first step.",
            "D4": "There other prompts help; a bad start fails on all.",
            "D5": "There the format of the prompts differs between the stages.",
        },
        changes=(
            Change("sft.steps", "the step of the lowest held-out loss"),
            Change("ppo.temperature", 1.0),
        ),
        why="Reinforcement learning only shifts weight between answers that the initial policy can already give.",
        would_overturn="The best of 16 answers of the initial policy is clearly better than the first.",
        leads_to=("D4", "E1"),
        references="Ouyang et al. 2022 (arXiv 2203.02155), who over-fit a little on purpose.",
    ),
)  # fmt: skip
