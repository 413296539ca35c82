"""Causes in the KL term and the reference."""

from regard.review.causes import ALWAYS, Cause, Change

CAUSES = (
    Cause(
        id="K3",
        name="wrong-reference",
        title="The reference is not the model that training started from",
        stage="KL",
        since="start",
        layman="The leash is tied to the wrong post.",
        what="KL is measured to another model than the initial policy: the base instead of the SFT model, an older "
        "checkpoint, another quantisation or template. The penalty then pulls the policy towards that model.",
        predicts={"kl-not-zero-at-start": ALWAYS, "INV001": ALWAYS},
        decided_by=("kl-not-zero-at-start",),
        look_alikes={
            "G3": "There the ratio is not 1 either; with a wrong reference it is exactly 1.",
            "K4": "There KL is negative in the mean; to a wrong reference it is positive.",
        },
        changes=(Change("code.reference", "load the reference from the checkpoint that the policy starts from"),),
        why="KL to the initial policy is 0 by arithmetic, so any other value at step 0 is a pull nobody asked for.",
        would_overturn="The hashes of the initial policy and of the reference are equal.",
        leads_to=("K2", "A1"),
    ),
)
