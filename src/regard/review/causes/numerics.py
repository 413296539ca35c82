"""Causes in number formats and in restarts."""

from regard.review.causes import ALWAYS, OFTEN, SOMETIMES, USUALLY, Cause, Change

CAUSES = (
    Cause(
        id="N1",
        name="non-finite-numbers",
        title="NaN or infinity in a loss or a gradient",
        stage="infrastructure",
        since="symptom",
        layman="The numbers blew up.",
        what="An exponential of a log-ratio, a half-precision gradient or a logarithm of 0 overflows, or a row that is "
        "all padding is divided by 0. Either the update is skipped without a word, or it destroys the weights.",
        predicts={
            "NUM001": ALWAYS,
            "gradients-not-finite": ALWAYS,
            "updates-skipped": USUALLY,
            "updates-vanish": SOMETIMES,
            "ratio-explodes-before-nan": SOMETIMES,
            "NUM002": SOMETIMES,
        },
        decided_by=("NUM001", "gradients-not-finite"),
        look_alikes={
            "M1": "A metric that is NaN from its first step was never measured.",
            "P1": "There the policy has moved too far for several steps before.",
            "C2": "There the value loss has grown for several steps before.",
        },
        changes=(
            Change("model.dtype", "float32"),
            Change(
                "code.loss",
                "log-ratios clamped to ±20; empty responses left out; updates that are not finite skipped and counted",
            ),
            Change("ppo.learning_rate", lambda rate: rate / 3),
        ),
        why="One number that is not finite makes all weights not finite in one step.",
        would_overturn="The metric was never finite, so it was not measured at all.",
        leads_to=("P2",),
        passes_for=("N2",),
        references="verl issues 747 and 751; TRL, how to train.",
    ),
    Cause(
        id="N2",
        name="precision-underflow",
        title="Updates are smaller than the rounding of the weights",
        stage="infrastructure",
        since="start",
        layman="The corrections are smaller than the tip of the pencil.",
        what="Weights or the optimiser's state are kept in a short format. With bfloat16 an update below a 256th of a "
        "weight is lost, and with a learning rate of 1e-6 nearly all are. Gradient and loss look normal.",
        predicts={
            "NUM003": ALWAYS,
            "fewer-weights-move-at-lower-rate": USUALLY,
            "updates-vanish": SOMETIMES,
            "policy-hardly-moves": OFTEN,
            "POL006": OFTEN,
            "kl-stays-near-zero": OFTEN,
            "score-does-not-gain": OFTEN,
            "gain-within-noise": OFTEN,
        },
        decided_by=("NUM003",),
        look_alikes={
            "P2": "There every weight moves, only by little, and a higher learning rate helps in proportion.",
            "D4": "There the gradient is 0.",
            "G4": "That is between two engines; here the trainer alone is concerned.",
        },
        changes=(
            Change("model.dtype", "float32"),
            Change("code.optimiser", "float32 master weights and optimiser state, or stochastic rounding"),
        ),
        why="A sum is only as fine as the format that it is kept in.",
        would_overturn="A step changes more than half of the trained weights.",
        leads_to=("P2",),
        references="Micikevicius et al. 2018 (arXiv 1710.03740); arXiv 2510.26788.",
    ),
    Cause(
        id="N3",
        name="resume-discontinuity",
        title="A restart lost part of the state",
        stage="infrastructure",
        since="symptom",
        layman="After a restart it forgot where it was.",
        what="Optimiser moments, learning-rate schedule, KL controller, random state or the position in the data were "
        "not restored, or the reference was loaded from the policy. From the resume on it is another run.",
        predicts={
            "NUM004": ALWAYS,
            "learning-rate-restarts": USUALLY,
            "kl-falls-to-zero-at-resume": SOMETIMES,
            "prompts-start-over-after-resume": SOMETIMES,
            "INV002": SOMETIMES,
            "reference-moves": SOMETIMES,
        },
        decided_by=(
            "NUM004",
            "learning-rate-restarts",
            "prompts-start-over-after-resume",
            "kl-falls-to-zero-at-resume",
        ),
        look_alikes={
            "G8": "There only the score jumps, and no resume stands there.",
            "S1": "There the prompts change without a restart.",
            "K8": "There the reference follows the policy all the time, not from a restart on.",
        },
        changes=(
            Change(
                "code.checkpoint",
                "save and restore optimiser, schedule, controller, random states and data position",
                {"trl": "resume_from_checkpoint", "verl": "trainer.resume_mode"},
            ),
            Change("code.reference", "load the reference from the checkpoint that training began with"),
        ),
        why="A resumed run should be the run that was never interrupted, bit by bit.",
        would_overturn="A run over the same steps without an interruption shows the same jump.",
        leads_to=("K8", "P1"),
        references="Huang et al. 2023, The N implementation details (Hugging Face blog).",
    ),
)
