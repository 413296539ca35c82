"""Causes in the KL term and the reference."""

from regard.review.causes import ALWAYS, OFTEN, SOMETIMES, USUALLY, Cause, Change

_COEF = {
    "trl": "kl_coef (PPO), beta (GRPO, RLOO)",
    "verl": "algorithm.kl_ctrl.kl_coef",
    "openrlhf": "--init_kl_coef",
}
_NO_GAIN = {"score-does-not-gain": USUALLY, "kl-stays-near-zero": USUALLY, "gain-within-noise": OFTEN}
_FAR = ("KL001", "RWD001", "RWD002", "TXT002", "TXT003", "TXT004", "gold-falls-as-score-rises", "score-parts-from-gold",
        "length-surge", "repetition-surge", "skill-lost", "pooled-variety-lost", "reference-nll-surge",
        "score-likes-gibberish", "score-pays-length", "score-pays-repetition", "paid-marker",
        "kl-rises-after-saturation", "entropy-fell-far")  # fmt: skip
_ADRIFT = dict.fromkeys(_FAR, SOMETIMES) | {"kl-still-rising": OFTEN, "KL001": OFTEN, "skill-lost": OFTEN,
                                            "gold-falls-as-score-rises": OFTEN, "RWD001": OFTEN}  # fmt: skip
"""What follows where nothing holds the policy: whatever the reward model can be pleased with."""

CAUSES = (
    Cause(
        id="K1",
        name="kl-coefficient-too-low",
        title="The KL coefficient is too low",
        stage="KL",
        since="symptom",
        layman="The leash is too long: the model wanders off to wherever the judge is easiest to fool.",
        what="What a nat of KL costs is small beside what it buys in score, so nothing holds the policy near the text "
        "that the reward model was trained on. No single update is large; they add up. First the KL grows without a "
        "plateau, then length or a phrase, then quality.",
        predicts={**_ADRIFT, "leash-loose": USUALLY, "kl-still-rising": USUALLY, "kl-cheap-beside-gain": USUALLY},
        decided_by=("leash-loose", "kl-cheap-beside-gain"),
        look_alikes={
            "P1": "There single updates are large: distance per update and clipped share are high. Here they are calm.",
            "H1": "With a usual coefficient the reward model is the root; ten times the coefficient then only stops "
            "earlier, and gold at equal KL stays the same.",
            "R5": "The scores are larger than usual and the coefficient is not smaller: divide the scores.",
            "K5": "There the term is missing in the reward whatever the coefficient says.",
            "K8": "There the logged KL is about 0 while the texts change.",
        },
        changes=(
            Change("ppo.kl_coef", lambda beta: 4 * beta if beta > 0 else 0.05, _COEF),
            Change("ppo.kl_target", 6.0, {"trl": "(none; fixed)", "verl": "algorithm.kl_ctrl.target_kl"}),
            Change("ppo.steps", "stop at the checkpoint where gold is best"),
        ),
        why="Only the KL term moves the point to which training goes; clip and learning rate only change how fast.",
        would_overturn="With four times the coefficient gold at equal KL is no better and the KL no lower.",
        leads_to=("H1", "H2", "H3", "H4", "H5", "H6", "H7", "E1", "A1"),
        references="Ziegler et al. 2019 (arXiv 1909.08593); Gao et al. 2022 (arXiv 2210.10760).",
    ),
    Cause(
        id="K2",
        name="kl-coefficient-too-high",
        title="The KL coefficient is too high",
        stage="KL",
        since="start",
        layman="The leash is so short that the model cannot move.",
        what="Against the score's own spread a nat costs so much that the best policy is the reference. Updates are of "
        "usual size and are pulled back: the KL stays near 0 and the score where it began.",
        predicts={**_NO_GAIN, "leash-short": ALWAYS},
        decided_by=("leash-short",),
        look_alikes={
            "P2": "There the updates themselves are tiny; here they are of usual size and are undone.",
            "D4": "There the responses to a prompt all score the same.",
            "R5": "The scores are far smaller than usual and the coefficient is not larger: scale the scores.",
            "K3": "There the KL is not 0 at the start.",
        },
        changes=(
            Change("ppo.kl_coef", lambda beta: beta / 10, _COEF),
            Change("ppo.scale_scores", True, {"trl": "(none; divide in the reward function)"}),
        ),
        why="The best gain is about the score's variance divided by the coefficient.",
        would_overturn="A tenth of the coefficient leaves score and KL where they are.",
        references="Huang et al. 2024 (arXiv 2403.17031); rldoctor 0.2.0, strangled.",
    ),
    Cause(
        id="K3",
        name="wrong-reference",
        title="The reference is not the model that training started from",
        stage="KL",
        since="start",
        layman="The leash is tied to the wrong post.",
        what="KL is measured to another model than the initial policy: the base instead of the SFT model, an older "
        "checkpoint, another quantisation or template. The penalty then pulls the policy towards that model.",
        predicts={"kl-not-zero-at-start": ALWAYS, "INV001": ALWAYS, "kl-in-first-rollouts": ALWAYS},
        decided_by=("kl-not-zero-at-start", "kl-in-first-rollouts"),
        look_alikes={
            "G3": "There the ratio is not 1 either; with a wrong reference it is exactly 1.",
            "K4": "There KL is negative in the mean; to a wrong reference it is positive.",
            "K7": "There what is off follows the padding, and vanishes when KL is recomputed from the tokens.",
        },
        changes=(
            Change(
                "code.reference",
                "load the reference from the checkpoint that the policy starts from",
                {"trl": "ref_model", "verl": "actor_rollout_ref.model.path"},
            ),
        ),
        why="KL to the initial policy is 0 by arithmetic, so any other value at step 0 is a pull nobody asked for.",
        would_overturn="The hashes of the initial policy and of the reference are equal.",
        leads_to=("K2", "A1"),
    ),
    Cause(
        id="K4",
        name="negative-kl",
        title="The tokens are not sampled from the policy that is scored, and the KL is negative",
        stage="KL",
        since="symptom",
        layman="The distance meter shows less than zero: the meter, not the model, is wrong.",
        what="A minimum length, a forbidden EOS, top-k, top-p or a repetition penalty change the distribution that is "
        "sampled but not the one that is scored. What the policy would not have said itself gets a lower probability "
        "than the reference gives it, and the KL term pays for it.",
        predicts={
            "k1-below-zero": ALWAYS,
            "KL002": USUALLY,
            "GEN001": USUALLY,
            "sampler-differs-at-start": USUALLY,
            "INV001": USUALLY,
            "POL004": USUALLY,
            "sampler-gap-at-end": ALWAYS,
            "sampler-mass-missing": USUALLY,
            "sampler-slope-off": OFTEN,
            "end-is-forced": OFTEN,
            "kl-falls-to-zero": SOMETIMES,
            "kl-stays-near-zero": USUALLY,
            "length-surge": SOMETIMES,
            "POL001": SOMETIMES,
            "skill-lost": SOMETIMES,
            "TXT003": SOMETIMES,
            "repetition-surge": SOMETIMES,
        },
        decided_by=("k1-below-zero", "KL002"),
        look_alikes={
            "G3": "The same fault seen at the ratio; where the mean of k1 stays above 0, it is that.",
            "G4": "Two engines differ in rounding: the mean gap is about 0 and so is the KL at the start.",
            "K7": "There the KL recomputed from the tokens is not negative.",
        },
        changes=(
            Change(
                "code.sampling",
                "sample at top_k 0, top_p 1, equal temperature, no minimum length, EOS allowed",
                {
                    "trl": "generation kwargs",
                    "verl": "actor_rollout_ref.rollout.{top_k,top_p,temperature}",
                    "openrlhf": "--top_p 1 --temperature 1 --min_new_tokens 1",
                },
            ),
        ),
        why="E[log π − log π_ref] over samples of π is a KL, which is never negative.",
        would_overturn="With unrestricted sampling the mean of k1 is still below 0 by three standard errors.",
        leads_to=("H1", "E2"),
        references="trl issues 355 and 615; LlamaFactory issue 1111.",
    ),
    Cause(
        id="K5",
        name="kl-term-misplaced",
        title="The KL term does not pull back: wrong estimator, wrong place or wrong sign",
        stage="KL",
        since="symptom",
        layman="They measure the distance, but the pull-back force is not what the ruler says.",
        what="The coefficient is set and the KL is logged, but it is not taken from the reward: it is a loss of k1, "
        "whose expected gradient is 0; a k3 whose gradient is that of another divergence; a term computed without "
        "gradient; or it has the wrong sign and pays for distance.",
        predicts={
            **_ADRIFT,
            "KL003": ALWAYS,
            "kl-term-not-in-reward": ALWAYS,
            "kl-costs-more-than-gain": USUALLY,
            "kl-term-added-to-reward": OFTEN,
            "kl-loss-without-pull": OFTEN,
            "kl-still-rising": USUALLY,
        },
        decided_by=("KL003", "kl-term-not-in-reward", "kl-term-added-to-reward", "kl-loss-without-pull"),
        look_alikes={
            "K1": "There ten times the coefficient changes much; here it changes nothing, or makes it worse.",
            "K7": "There the term is in the reward, of a KL that is too large.",
            "K4": "A wrong estimator cannot make the mean of k1 negative.",
        },
        changes=(
            Change(
                "code.kl_placement",
                "take coefficient · (logprob − ref_logprob) from the reward of each token",
                {
                    "trl": "kl_estimator: k1",
                    "verl": "algorithm.use_kl_in_reward: true, kl_penalty: kl",
                    "openrlhf": "--kl_estimator k1, without --use_kl_loss",
                },
            ),
            Change("code.kl_loss", "or k2 in the loss, whose gradient is that of the KL"),
        ),
        why="As a reward the KL acts through the advantage, with the gradient of the KL itself.",
        would_overturn="The KL at the end falls with every step of the coefficient in a sweep of three.",
        leads_to=("K1", "H1", "H2", "H3", "H4", "H5", "H6", "H7", "E1", "A1"),
        references="Schulman 2020 (joschu.net/blog/kl-approx.html); SkyRL issues 805 and 1340; arXiv 2512.21852.",
    ),
    Cause(
        id="K6",
        name="kl-controller-off",
        title="The KL controller swings, or its target is out of reach",
        stage="KL",
        since="start",
        layman="The automatic leash yanks tight, goes slack, yanks tight again, or only ever does one of them.",
        what="The horizon is short beside the batch, so each correction overshoots; or the target is in another unit "
        "than the KL that the controller is fed, such as 6 nats per sequence against a mean per token, and the "
        "coefficient drifts one way for ever.",
        predicts={
            **dict.fromkeys(_FAR, SOMETIMES),
            "controller-runs-away": USUALLY,
            "controller-gain-high": USUALLY,
            "controller-swings": OFTEN,
            "controller-target-out-of-reach": OFTEN,
            "KL005": ALWAYS,
            "leash-loose": OFTEN,
            "leash-short": OFTEN,
            "kl-still-rising": OFTEN,
            "kl-costs-more-than-gain": SOMETIMES,
            "score-does-not-gain": SOMETIMES,
            "kl-stays-near-zero": SOMETIMES,
            "kl-cheap-beside-gain": SOMETIMES,
            "score-falls-back": SOMETIMES,
            "gain-within-noise": SOMETIMES,
        },
        decided_by=(
            "controller-runs-away",
            "controller-swings",
            "controller-gain-high",
            "controller-target-out-of-reach",
        ),
        look_alikes={
            "P1": "There the swings go on with a fixed coefficient.",
            "K4": "A negative KL drives the coefficient down as well; here the KL is positive.",
            "K1": "There the coefficient is constant.",
        },
        changes=(
            Change(
                "ppo.kl_target",
                "a KL in the unit that the controller is fed; 6 nats per sequence is usual",
                {"verl": "algorithm.kl_ctrl.target_kl"},
            ),
            Change(
                "ppo.kl_horizon",
                lambda horizon: 10 * horizon,
                {"verl": "algorithm.kl_ctrl.horizon", "openrlhf": "--kl_horizon"},
            ),
            Change("ppo.kl_target_unit", "nats/sequence"),
        ),
        why="Each update may change the coefficient by 0.2·n/horizon at most; a tenth of that is a slow, steady hand.",
        would_overturn="With a fixed coefficient the KL swings as before.",
        leads_to=("K1", "K2", "H1", "A1"),
        references="Ziegler et al. 2019 (arXiv 1909.08593), section 2.2; trl issues 18 and 1178.",
    ),
    Cause(
        id="K7",
        name="padding-counted",
        title="Padding is counted in the KL, the entropy or the loss",
        stage="KL",
        since="symptom",
        layman="Blank squares are counted as if the model had written them.",
        what="A mean over the padded width, a sentinel left in a sum, or prompt tokens in the response mask. What is "
        "logged follows the number of pads; where rewards or losses are made of it, short responses pay for what they "
        "did not write.",
        predicts={
            "logged-kl-counts-padding": ALWAYS,
            "kl-in-first-rollouts": OFTEN,
            "kl-sums-disagree": ALWAYS,
            "KL006": ALWAYS,
            "INV003": SOMETIMES,
            "length-surge": OFTEN,
            "kl-stays-near-zero": 0.05,
            "TXT001": SOMETIMES,
            "skill-lost": SOMETIMES,
            "score-pays-length": SOMETIMES,
        },
        decided_by=("logged-kl-counts-padding",),
        look_alikes={
            "M1": "Only the log is wrong where rewards and losses are made of the masked numbers.",
            "E1": "An entropy below 0 is impossible, so it is no collapse.",
            "K4": "There the KL is negative also when it is recomputed from the tokens.",
        },
        changes=(
            Change("code.mask", "multiply by the response mask before every sum and mean; drop sentinels before"),
        ),
        why="A number that is made of tokens must not change when padding is added.",
        would_overturn="Doubling the padded width changes no logged number and no loss.",
        leads_to=("H2", "K2"),
        references="trl issues 2496 and 6809; verl issue on entropy before 0.4.1.",
    ),
    Cause(
        id="K8",
        name="reference-moves",
        title="The reference moves with the policy",
        stage="KL",
        since="symptom",
        layman="The post that the leash is tied to is dragged along.",
        what="The reference shares the policy's weights, is reloaded from the latest checkpoint, or is reset too "
        "often. The KL is about 0, or falls to 0 at each reset, while the texts change; the penalty holds nothing.",
        predicts={
            **dict.fromkeys(_FAR, 0.12),
            "KL004": USUALLY,
            "reference-moves": USUALLY,
            "INV002": ALWAYS,
            "kl-falls-to-zero": USUALLY,
            "score-outruns-kl": SOMETIMES,
            "kl-stays-near-zero": USUALLY,
            "KL001": 0.03,
            "kl-still-rising": 0.05,
        },
        decided_by=("reference-moves", "kl-falls-to-zero", "score-outruns-kl", "INV002"),
        look_alikes={
            "P2": "There the texts do not change either.",
            "K2": "There the KL is small but above 0, and the score does not move.",
            "N3": "There it happens once, at a resume.",
            "M1": "Where KL is not computed (coefficient 0 in some trainers) a logged 0 says nothing.",
        },
        changes=(
            Change(
                "code.reference",
                "a frozen copy of its own; check its hash at every checkpoint",
                {"trl": "ref_model; sync_ref_model: false"},
            ),
        ),
        why="KL to a model that follows measures a step, not a distance, and a larger coefficient does not help.",
        would_overturn="The reference's hash is the same before and after, and the same text keeps its probability.",
        leads_to=("K1", "H1", "H2", "H3"),
        references="Control RR of the case studies; published runs with a KL of exactly 0.",
    ),
)
