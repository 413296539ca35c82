"""Guards: what looks like a fault of training and is one of measurement, or cannot be decided by it."""

from regard.review.causes import ALWAYS, OFTEN, USUALLY, Cause, Change

CAUSES = (
    Cause(
        id="M1",
        name="metric-semantics",
        title="The number does not mean what its name says",
        stage="measurement",
        since="start",
        layman="The thermometer is read in the wrong unit.",
        what="The same name is a sum in one trainer and a mean in another, per token or per sequence, with or without "
        "padding; a sentinel of 1 for every pad makes an entropy negative. The alarm goes away once the unit, sign, "
        "mask and reduction are known.",
        predicts={"entropy-holds-sentinels": ALWAYS, "INV003": USUALLY, "POL002": OFTEN},
        decided_by=("entropy-holds-sentinels",),
        look_alikes={
            "E1": "A collapse ends at 0, not below.",
            "K4": "A negative mean of k1 that is large against its noise is a fault of sampling, not of the log.",
        },
        changes=(
            Change("code.logging", "log under a key that states estimator, mask and reduction; name it with --map"),
        ),
        why="A limit in one unit says nothing about a number in another.",
        would_overturn="The number computed from the rollouts' own log-probabilities is the same.",
        references="docs/reference/metrics.md.",
    ),
    Cause(
        id="M2",
        name="evaluation-blind-spot",
        title="The judge of success is the reward that was optimised",
        stage="measurement",
        since="start",
        layman="The student marks their own exam.",
        what="A win rate by the training reward model, or by a judge of the same family, rises whenever training works "
        "at all, and can not see over-optimisation.",
        predicts={"judge-is-the-reward-model": ALWAYS, "RWD005": ALWAYS},
        decided_by=("judge-is-the-reward-model",),
        look_alikes={"H1": "Over-optimisation may be going on as well; this judge cannot show it."},
        changes=(Change("eval.judge", "other labels, other raters, or a judge of another model family"),),
        why="Only who was not optimised against can be asked whether it helped.",
        would_overturn="The judge was trained on other labels than the reward model and only happens to agree.",
        references="Gao, Schulman, Hilton 2022 (arXiv 2210.10760).",
    ),
    Cause(
        id="M3",
        name="underpowered-comparison",
        title="Too few prompts to tell before from after",
        stage="measurement",
        since="start",
        layman="Three coin tosses do not show that a coin is loaded.",
        what="The difference between before and after is within its own error, and the error is large because few "
        "prompts, or one seed, were measured.",
        predicts={"comparison-too-small": ALWAYS},
        decided_by=("comparison-too-small",),
        look_alikes={"P2": "Too small a learning rate changes nothing either; a larger comparison then still shows 0."},
        changes=(Change("eval.num_prompts", lambda number: max(256.0, 4 * number)),),
        why="The error of a difference falls with the square root of the prompts.",
        would_overturn="The same comparison on 256 prompts has an interval that holds 0 as well.",
        references="",
    ),
)
