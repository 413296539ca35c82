"""Causes in the value."""

from regard.review.causes import ALWAYS, HACKED, HACKS, OFTEN, SOMETIMES, USUALLY, Cause, Change

CAUSES = (
    Cause(
        id="C1",
        name="critic-underfit",
        title="The value never learns to predict the returns",
        stage="critic",
        since="start",
        layman="The coach who says what score to expect is guessing, so praise and blame are random.",
        what="The value head starts from random numbers or a wrong level and cannot learn: its body is frozen, its "
        "learning rate or weight is too low, or its loss is clipped so tightly that it cannot reach the returns. "
        "Advantages are then mostly the error of the value, and whitening makes that error look like a signal.",
        predicts={
            "VAL002": USUALLY,
            "VAL001": USUALLY,
            "value-explains-nothing": USUALLY,
            "value-wrong-at-first": OFTEN,
            "value-off-level": OFTEN,
            "value-beyond-scores": OFTEN,
            "value-clip-binds": SOMETIMES,
        },
        decided_by=("VAL002", "VAL001", "value-wrong-at-first", "value-off-level", "value-clip-binds"),
        look_alikes={
            "C2": "There the value was good and its loss grows; here the loss is high from the start and flat.",
            "R5": "There the loss falls in proportion once the mean score is taken off the scores.",
            "P6": "There the value predicts well and only credit for early tokens is missing.",
            "D4": "There returns hardly vary, so that no value can explain them.",
        },
        changes=(
            Change("ppo.value_clip_range", "null: no clip, or a range of the size of the returns"),
            Change(
                "code.value",
                "a head that starts at zero, on a body that it may move, trained 50 steps before the policy",
            ),
            Change("ppo.value_coef", lambda coef: 3 * coef),
        ),
        why="Only a value whose error is smaller than the spread of the returns takes noise out of the advantages.",
        would_overturn="Explained variance above 0.2 after the first tenth of the run.",
        leads_to=("P7", "P1", "H2"),
        references="Yuan et al. 2025, VC-PPO (arXiv 2503.01491); Kazemnejad et al. 2024, VinePPO (arXiv 2410.01679).",
    ),
    Cause(
        id="C2",
        name="critic-divergence",
        title="The value runs away from the returns",
        stage="critic",
        since="symptom",
        layman="The coach's forecasts run away and drag everyone along.",
        what="The learning rate of the value is too high, or a few huge rewards pull it, and nothing clips it. Its "
        "predictions leave the range of the scores, the advantages follow, and through a shared body the policy does.",
        predicts={
            **HACKED,
            "value-beyond-scores": USUALLY,
            "value-loss-grows": OFTEN,
            "value-loss-jumps-first": OFTEN,
            "VAL003": ALWAYS,
            "update-outruns-its-rate": OFTEN,
            "NUM005": OFTEN,
            "value-swings": USUALLY,
            "VAL002": USUALLY,
            "VAL001": OFTEN,
            "value-explains-nothing": USUALLY,
            "value-clip-binds": OFTEN,
            "value-off-level": OFTEN,
            "NUM002": SOMETIMES,
        },
        decided_by=(
            "VAL003",
            "value-loss-grows",
            "value-loss-jumps-first",
            "value-swings",
            "update-outruns-its-rate",
        ),
        look_alikes={
            "C1": "There the loss is high from the start and does not grow.",
            "P1": "There the distance of old to new policy jumps first, and the value follows.",
            "R5": "There a score far from all others stands in the same step, before the value moves.",
        },
        changes=(
            Change(
                "code.value_learning_rate",
                "a third of the present one",
                {"verl": "critic.optim.lr", "openrlhf": "critic_learning_rate"},
            ),
            Change("ppo.value_clip_range", 0.2),
            Change("ppo.value_coef", 0.1),
        ),
        why="A value that moves slower than the returns it chases cannot overshoot them.",
        would_overturn="The distance of old to new policy jumps in an earlier step than the value loss.",
        leads_to=("P1", "N1", *HACKS),
        references="TRL, how to train (value loss before instabilities); Zheng et al. 2023 (arXiv 2307.04964).",
    ),
)
