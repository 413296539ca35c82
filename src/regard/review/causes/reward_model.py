"""Causes in the reward model: what it learned, how its score is scaled and where it is read."""

from regard.review.causes import ALWAYS, OFTEN, SOMETIMES, USUALLY, Cause, Change
from regard.review.causes.data import CLIMBED

CAUSES = (
    Cause(
        id="R1",
        name="reward-model-underfit",
        title="The reward model hardly ranks better than chance",
        stage="reward model",
        since="start",
        layman="The judge is barely better than tossing a coin.",
        what="Too few comparisons, too few steps, a learning rate at which the head does not move, or too small a "
        "model. "
        "It ranks neither its training pairs nor others, though people agree on them. The policy then climbs noise: "
        "the "
        "score rises and quality does not.",
        predicts={
            "reward-model-weak": ALWAYS,
            "few-training-pairs": USUALLY,
            "RMD007": USUALLY,
            "accuracy-far-below-raters": USUALLY,
            "RMD008": USUALLY,
            "RMD001": OFTEN,
            "training-accuracy-far-above-held-out": SOMETIMES,
            **CLIMBED,
        },
        decided_by=("few-training-pairs", "accuracy-far-below-raters"),
        look_alikes={
            "D1": "There raters disagree with each other; here they agree and the model has not learned it.",
            "R6": "There the same pairs are ranked well in the reward model's own evaluation.",
            "R7": "There pairs like the training pairs are ranked well.",
            "R2": "There training pairs are ranked well.",
        },
        changes=(
            Change("data.max_rm_groups", 0.0),
            Change("rm.steps", 0.0, {"trl": "num_train_epochs"}),
            Change("rm.learning_rate", lambda rate: 3 * rate, {"trl": "learning_rate"}),
        ),
        why="Whatever stage 4 gains on this score is noise; below some 2,000 pairs no reward model is of use.",
        would_overturn="Twice as many pairs leave the accuracy on held-out pairs where it is.",
        leads_to=("H1",),
        references="Gao, Schulman, Hilton 2022 (arXiv 2210.10760); Stiennon et al. 2020 (arXiv 2009.01325).",
    ),
    Cause(
        id="R2",
        name="reward-model-overfit",
        title="The reward model knows its training pairs by heart",
        stage="reward model",
        since="start",
        layman="The judge memorised its training examples and is too sure of itself elsewhere.",
        what="More than one epoch over comparisons that share texts. Accuracy on training pairs goes on rising, loss "
        "on "
        "held-out pairs turns and rises, and margins grow without getting righter.",
        predicts={
            "training-accuracy-far-above-held-out": ALWAYS,
            "RMD002": USUALLY,
            "reward-model-miscalibrated": USUALLY,
            "RMD005": USUALLY,
            "reward-model-weak": SOMETIMES,
            "RMD008": SOMETIMES,
            "accuracy-far-below-raters": SOMETIMES,
            **CLIMBED,
        },
        decided_by=("training-accuracy-far-above-held-out", "RMD002"),
        look_alikes={
            "D1": "There no checkpoint is good; here an earlier one is.",
            "R4": "There training pairs are not ranked much better than others.",
        },
        changes=(
            Change("rm.epochs", 1.0, {"trl": "num_train_epochs"}),
            Change("rm.steps", "the step of the lowest held-out loss"),
        ),
        why="The policy goes where the reward model is sure, and it is sure of what it learned by heart.",
        would_overturn="The held-out loss ends at its lowest value.",
        leads_to=("R4", "H1"),
        references="Zhu et al. 2024 (arXiv 2401.16335); Ouyang et al. 2022 (arXiv 2203.02155).",
    ),
    Cause(
        id="R3",
        name="reward-model-length-bias",
        title="The reward model takes length for quality",
        stage="reward model",
        since="start",
        layman="The judge likes long answers, whatever they say.",
        what="In the comparisons the chosen text is mostly the longer one, out of haste or habit, or scores are summed "
        "over tokens. The reward model ranks by length before any policy is trained on it.",
        predicts={
            "score-follows-length": ALWAYS,
            "shorter-chosen-misranked": USUALLY,
            "RMD006": USUALLY,
            "chosen-mostly-longer": USUALLY,
            "labels-below-trusted": SOMETIMES,
            "reward-model-weak": SOMETIMES,
            "score-pays-length": USUALLY,
            "RWD002": OFTEN,
            "length-surge": OFTEN,
            "longer-than-sft-answers": OFTEN,
            "length-explains-gain": OFTEN,
            "TXT001": SOMETIMES,
            **CLIMBED,
        },
        decided_by=("score-follows-length", "shorter-chosen-misranked", "chosen-mostly-longer"),
        look_alikes={
            "H2": "There the preference for length shows on the first samples as well, but the labels do not hold it.",
            "P9": "There wrong answers grow, and the score does not prefer length.",
            "R6": "There a score changes with padding.",
        },
        changes=(
            Change("data.comparisons", "as many pairs whose chosen text is the shorter as pairs whose it is the "
            "longer"),
            Change("code.reward", "a penalty on length beyond that of the reference"),
        ),
        why="Where length does not vary with the label it cannot be learned in place of quality.",
        would_overturn="Among responses of one length the score still orders them as people do, and the longer ones "
        "are "
        "better by people's judgement too.",
        leads_to=("H2",),
        references="Singhal et al. 2023 (arXiv 2310.03716); Chen et al. 2024, ODIN (arXiv 2402.07319).",
    ),
    Cause(
        id="R4",
        name="reward-model-miscalibrated",
        title="The reward model is as sure when it is wrong as when it is right",
        stage="reward model",
        since="start",
        layman="The judge is as sure of itself when wrong as when right.",
        what="Hard labels where people were divided, training on clear cases only, or too many epochs. Margins are too "
        "wide for what they know, so that a few odd responses get extreme scores.",
        predicts={
            "reward-model-miscalibrated": ALWAYS,
            "RMD005": ALWAYS,
            "labels-surer-than-raters": USUALLY,
            "training-accuracy-far-above-held-out": OFTEN,
            "RMD002": OFTEN,
            **CLIMBED,
        },
        decided_by=("reward-model-miscalibrated", "labels-surer-than-raters"),
        look_alikes={
            "R5": "There ranking and calibration are fine, and only the unit of the score is wrong in stage 4.",
            "R2": "There training pairs are ranked much better than others.",
        },
        changes=(
            Change("rm.epochs", 1.0, {"trl": "num_train_epochs"}),
            Change("data.comparisons", "the share of raters as the label, near-ties kept"),
            Change("rm.center_penalty", 0.01, {"trl": "center_rewards_coefficient"}),
        ),
        why="A margin that means what it says keeps the score from paying a fortune for a guess.",
        would_overturn="Dividing all margins by one fitted temperature changes nothing in calibration.",
        leads_to=("R5", "H1"),
        references="Guo et al. 2017 (arXiv 1706.04599); Stiennon et al. 2020 (arXiv 2009.01325).",
    ),
    Cause(
        id="R5",
        name="reward-scale-mismatch",
        title="The scores have another scale than the KL penalty was chosen for",
        stage="reward model",
        since="symptom",
        layman="Marks run from -800 to 800, so the leash that was made for ordinary marks no longer holds.",
        what="Ranking fixes neither zero nor unit of a score. Without normalisation, or after a change of reward "
        "model, "
        "the same KL coefficient is a hundred times weaker or stronger, and the critic chases huge targets.",
        predicts={
            "score-deviation-off": USUALLY,
            "score-deviation-jumps": OFTEN,
            "RWD012": ALWAYS,
            "KL001": SOMETIMES,
            "POL001": SOMETIMES,
            "VAL001": SOMETIMES,
            **CLIMBED,
        },
        decided_by=("score-deviation-off", "score-deviation-jumps"),
        look_alikes={
            "K1": "There the score has the usual spread and the coefficient is small.",
            "K2": "There the score has the usual spread and the coefficient is large.",
            "C1": "There the value loss stays high when scores are normalised.",
        },
        changes=(
            Change("ppo.scale_scores", True, {"openrlhf": "normalize_reward"}),
            Change("code.score", "the same multiplier from the first step to the last"),
        ),
        why="The KL coefficient is in score units per nat: it means something only when the score has a unit.",
        would_overturn="Divided by their deviation on SFT samples, the scores train the same policy.",
        leads_to=("K1", "K2", "C1", "C2"),
        references="Zheng et al. 2023 (arXiv 2307.04964); Ziegler et al. 2019 (arXiv 1909.08593).",
    ),
    Cause(
        id="R6",
        name="score-at-wrong-token",
        title="The score is read at padding or at another token than the last",
        stage="reward model",
        since="start",
        layman="The examiner read the blank space after the answer instead of the answer.",
        what="Index -1 on a right-padded batch, a pad token that is also EOS, or an index from before the response was "
        "cut. The reward model is good in its own evaluation; in stage 4 its score depends on the other rows of the "
        "batch.",
        predicts={
            "score-changes-when-alone": ALWAYS,
            "RWD010": ALWAYS,
            "score-worse-than-its-test": USUALLY,
            "RWD013": OFTEN,
            "score-follows-length": USUALLY,
            "score-pays-length": OFTEN,
            **CLIMBED,
        },
        decided_by=("score-changes-when-alone",),
        look_alikes={
            "D5": "There a response has one score, alone or in a batch.",
            "R1": "There the reward model's own evaluation is poor too.",
            "R7": "There a response has one score, alone or in a batch.",
            "G8": "There many scores are exactly one value.",
        },
        changes=(
            Change("code.score", "read at the last token that is no padding, of the response as it was cut"),
        ),
        why="A score is of a text; whatever else stands in the batch must not matter.",
        would_overturn="Each response gets the same score alone as among others.",
        leads_to=("R1", "H1"),
        references="Huang et al. 2024 (arXiv 2403.17031).",
    ),
    Cause(
        id="R7",
        name="reward-model-out-of-distribution",
        title="The score marks the prompt, or texts it has never seen, instead of the response",
        stage="reward model",
        since="start",
        layman="The judge is asked about things it never saw, or marks the question and not the answer.",
        what="The reward model was trained on other topics or on other models' answers. Most of the spread of its "
        "score "
        "lies between prompts, and within a prompt it says little about which response is better.",
        predicts={
            "score-depends-on-prompt": ALWAYS,
            "RWD015": ALWAYS,
            "score-deviation-off": USUALLY,
            "RWD012": OFTEN,
            "gain-within-noise": OFTEN,
            "score-does-not-gain": OFTEN,
            "value-explains-nothing": SOMETIMES,
            "score-worse-than-its-test": SOMETIMES,
            "RWD013": SOMETIMES,
            "rm-loses-on-policy-pairs": SOMETIMES,
            **CLIMBED,
        },
        decided_by=("score-depends-on-prompt",),
        look_alikes={
            "H1": "There the reward model is good on the first samples and is exploited later.",
            "S1": "There the prompts themselves change.",
            "R5": "There the score is spread within a prompt as well.",
        },
        changes=(
            Change("data.comparisons", "pairs of the current policy's responses to stage 4's prompts, added to the "
            "rest"),
            Change("code.advantage", "centred per prompt", {"verl": "algorithm.adv_estimator"}),
        ),
        why="What differs only between prompts cannot teach which response is better; it is noise in every advantage.",
        would_overturn="On pairs of responses to stage 4's own prompts the reward model is as right as on its test "
        "pairs.",
        leads_to=("H1", "P7"),
        references="Bai et al. 2022 (arXiv 2204.05862); Ramé et al. 2024, WARM (arXiv 2401.12187).",
    ),
    Cause(
        id="R8",
        name="bonus-dominates",
        title="A side bonus pays more than the task",
        stage="reward model",
        since="symptom",
        layman="A small bonus for form pays more than the real job.",
        what="The reward is a sum, and one part of it, for a format, brevity or a style, is always within reach or has "
        "the larger spread. The total rises while the part that measures the task stands still or falls.",
        predicts={
            "bonus-drives-score": ALWAYS,
            "RWD014": ALWAYS,
            "paid-marker": SOMETIMES,
            "score-deviation-off": SOMETIMES,
            **CLIMBED,
        },
        decided_by=("bonus-drives-score",),
        look_alikes={
            "H1": "There the gap lies inside one reward; here between its known parts.",
            "H5": "There the reward model itself pays for the phrase, without a bonus of that name.",
        },
        changes=(
            Change("code.reward", "the bonus only where the task is done, and capped",
                   {"trl": "reward_weights"}),
        ),
        why="The policy follows the cheapest reward; a bonus under a condition is not cheaper than the task.",
        would_overturn="Without the bonus the main part rises no faster.",
        leads_to=("H5", "H4"),
        references="",
    ),
)  # fmt: skip
