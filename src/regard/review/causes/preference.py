"""Causes in preference optimisation without samples (DPO and its kin)."""

from regard.review.causes import OFTEN, USUALLY, Cause, Change

CAUSES = (
    Cause(
        id="X1",
        name="dpo-displacement-or-memorisation",
        title="DPO takes probability from both responses, or learns the pairs by heart",
        stage="policy optimisation",
        since="symptom",
        layman="The gap between good and bad grows, but both become unlikely; or the pairs are just learned by heart.",
        what="Chosen and rejected are nearly alike, β is small, the learning rate high, or there are many epochs. The "
        "margin grows while the chosen response becomes less likely than at the start, or training pairs are separated "
        "without error while held-out pairs get worse.",
        predicts={
            "DPO003": USUALLY,
            "both-responses-less-likely": USUALLY,
            "training-pairs-without-error": OFTEN,
            "DPO002": OFTEN,
            "held-out-preference-loss-rises": OFTEN,
        },
        decided_by=("DPO003", "DPO002"),
        look_alikes={
            "R2": "The same of a reward model; there no policy moves.",
            "D1": "Noise leaves a ceiling of accuracy; training pairs are not separated without error.",
        },
        changes=(
            Change("dpo.epochs", 1.0),
            Change("dpo.learning_rate", lambda rate: rate / 10),
            Change("dpo.sft_coef", "an SFT term on the chosen response"),
            Change("dpo.beta", lambda beta: 3 * beta),
        ),
        why="The SFT term holds up what the difference alone would let fall, and one epoch ends before memory begins.",
        would_overturn="The chosen response's implicit reward ends at or above 0, held-out loss at its lowest.",
        leads_to=("A1", "H2"),
        references="Razin et al. 2024 (arXiv 2410.08847); Rafailov et al. 2024 (arXiv 2406.02900).",
    ),
)
