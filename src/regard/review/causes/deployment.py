"""Causes after training: what changes around a policy that does not."""

from regard.review.causes import ALWAYS, OFTEN, Cause, Change

CAUSES = (
    Cause(
        id="S1",
        name="prompt-shift-after-deployment",
        title="Users ask other things than training did",
        stage="deployment",
        since="symptom",
        layman="Users now ask different things than in training.",
        what="A new group of users, a language, a topic or a changed product brings prompts that neither policy nor "
        "reward model saw. Scores within a topic stay as they were; their mix changes.",
        predicts={"live-prompts-shifted": ALWAYS},
        decided_by=("live-prompts-shifted",),
        look_alikes={
            "S2": "There the prompts are the same and fresh pairs are ranked worse.",
            "A1": "There the policy changed; here its weights are fixed.",
        },
        changes=(
            Change("data.prompts", "draw the training prompts anew from what users ask"),
            Change("data.comparisons", "pairs on the new prompts, for the reward model"),
        ),
        why="Nothing is learned about prompts that are never asked in training.",
        would_overturn="Within each topic the score fell as much as over all.",
        leads_to=("R7",),
    ),
    Cause(
        id="S2",
        name="stale-reward-model",
        title="The reward model no longer tells today's responses apart",
        stage="deployment",
        since="symptom",
        layman="The judge was trained on last year's answers and no longer tells today's apart.",
        what="The policy moved on, the reward model did not. It still ranks its old pairs right, and fresh pairs of "
        "the present policy near chance.",
        predicts={"fresh-pairs-misranked": ALWAYS, "old-labels-disowned": 0.05},
        decided_by=("fresh-pairs-misranked",),
        look_alikes={
            "S3": "There people give old pairs another label today.",
            "S1": "There the prompts changed.",
            "R7": "There fresh pairs are misranked already at the end of training.",
        },
        changes=(
            Change("data.comparisons", "fresh pairs of the present policy, every week"),
            Change("code.labelling", "send pairs on which an ensemble of reward models disagrees to people first"),
        ),
        why="A reward model is right where it has pairs.",
        would_overturn="It ranks fresh pairs as well as held-out ones.",
        leads_to=("H1",),
        references="Bai et al. 2022 (arXiv 2204.05862), iterated training.",
    ),
    Cause(
        id="S3",
        name="preference-shift",
        title="People want something else than they did",
        stage="deployment",
        since="symptom",
        layman="People's taste changed, the model did not.",
        what="New guidelines, other raters or other habits: labels given today disagree with old labels of the same "
        "pairs, and agree with each other.",
        predicts={"old-labels-disowned": ALWAYS, "fresh-pairs-misranked": OFTEN},
        decided_by=("old-labels-disowned",),
        look_alikes={
            "S2": "There old pairs keep their labels.",
            "D1": "There new labels disagree with each other as well.",
        },
        changes=(
            Change("data.comparisons", "collect anew under the present guideline; weigh recent labels more"),
            Change("code.labelling", "write the version of the guideline beside every label"),
        ),
        why="No training on old labels leads to what people want now.",
        would_overturn="Old pairs labelled again get their old labels.",
        leads_to=("H1",),
        references="Casper et al. 2023 (arXiv 2307.15217).",
    ),
)
