"""Causes in the variety of what is sampled, and in what training costs elsewhere."""

from regard.review.causes import ALWAYS, OFTEN, SOMETIMES, USUALLY, Cause, Change

CAUSES = (
    Cause(
        id="E1",
        name="exploration-collapse",
        title="The policy became certain and stopped exploring",
        stage="policy optimisation",
        since="symptom",
        layman="It becomes so sure of one way of answering that it stops trying others.",
        what="Entropy is spent faster than score is gained: nothing holds it up, the clip is as tight above as "
        "below, the reward is sharp, or sampling is cold. When it is gone, samples are alike and advantages vanish.",
        predicts={"entropy-fell-far": ALWAYS, "POL002": USUALLY, "groups-say-the-same": USUALLY, "POL003": OFTEN,
                  "sampling-cold": SOMETIMES, "pooled-variety-lost": USUALLY, "TXT004": OFTEN, "skill-lost": OFTEN},
        decided_by=("entropy-fell-far", "POL002", "groups-say-the-same"),
        look_alikes={
            "D6": "There entropy is low before the first update.",
            "M1": "A negative entropy is a sentinel of the log, not a collapse.",
            "E3": "There token entropy holds, and only different prompts get the same answer.",
            "H5": "A paid phrase is certain, and the rest of the response is not.",
        },
        changes=(
            Change("ppo.entropy_coef", 0.001, {"trl": "entropy_coef", "verl": "actor.entropy_coeff"}),
            Change("ppo.clip_range_high", 0.28, {"trl": "epsilon_high", "verl": "actor.clip_ratio_high"}),
            Change("ppo.temperature", 1.0, {"trl": "temperature", "verl": "rollout.temperature"}),
            Change("ppo.kl_coef", lambda beta: 3 * beta, {"trl": "kl_coef", "verl": "algorithm.kl_ctrl.kl_coef"}),
        ),
        why="What the policy never samples it cannot learn; a higher upper clip lets rare tokens grow.",
        would_overturn="Score and gold still rise, and best-of-8 of the last policy beats best-of-8 of the first.",
        leads_to=("D4", "E3", "H3"),
        references="Cui et al. 2025 (arXiv 2505.22617); DAPO (arXiv 2503.14476).",
    ),
    Cause(
        id="E2",
        name="entropy-explosion",
        title="Choices become noise",
        stage="policy optimisation",
        since="symptom",
        layman="Its choices become random noise.",
        what="A bonus for entropy that outweighs the reward, or advantages that are mostly negative, spread "
        "probability over everything. Score and gold fall as entropy rises.",
        predicts={"entropy-rises": ALWAYS, "entropy-bonus-large": USUALLY, "reference-nll-surge": OFTEN,
                  "skill-lost": OFTEN, "TXT001": SOMETIMES},
        decided_by=("entropy-rises",),
        look_alikes={
            "P1": "There the jump of old against new policy comes first.",
            "G4": "There sampler and trainer disagree first.",
            "G5": "There sampler and trainer disagree first, and more with every step of staleness.",
        },
        changes=(
            Change("ppo.entropy_coef", 0.0, {"trl": "entropy_coef", "verl": "actor.entropy_coeff"}),
            Change("ppo.temperature", 1.0, {"trl": "temperature", "verl": "rollout.temperature"}),
        ),
        why="With advantages of deviation 1, a bonus above some 0.01 a nat competes with the reward itself.",
        would_overturn="The score goes on rising with entropy.",
        leads_to=("H7", "G2"),
        references="Cui et al. 2025 (arXiv 2505.22617).",
    ),
    Cause(
        id="E3",
        name="variety-lost-between-responses",
        title="Each response is varied, and all are the same",
        stage="policy optimisation",
        since="symptom",
        layman="Each answer looks varied, but everyone gets the same one.",
        what="Reverse KL seeks one mode, and a saturated or shared reward gives no reason to leave it. Measures "
        "within a response see nothing; over all responses distinct word pairs and openings shrink.",
        predicts={"variety-lost-between-only": USUALLY, "pooled-variety-lost": ALWAYS, "TXT004": USUALLY,
                  "openings-settle": OFTEN, "entropy-fell-far": SOMETIMES, "skill-lost": OFTEN},
        decided_by=("variety-lost-between-only", "TXT004"),
        look_alikes={
            "H3": "There the locked opening is paid for by the score.",
            "E1": "There entropy per token collapses too.",
            "D4": "Few or narrow prompts have few answers: compare with the first responses to the same prompts.",
        },
        changes=(
            Change("ppo.kl_coef", lambda beta: 3 * beta, {"trl": "kl_coef", "verl": "algorithm.kl_ctrl.kl_coef"}),
            Change("data.prompts", "more, and more different, prompts"),
            Change("ppo.steps", "stop when the score saturates"),
        ),
        why="The reference is varied; staying near it keeps the variety that the reward does not ask for.",
        would_overturn="The first responses to the same prompts are no more varied.",
        references="Kirk et al. 2023 (arXiv 2310.06452).",
    ),
    Cause(
        id="A1",
        name="alignment-tax",
        title="Better at the task, worse at everything else",
        stage="policy optimisation",
        since="symptom",
        layman="It got politer and dumber.",
        what="Training on a narrow task moves weights that other skills need, and nothing pulls them back there: KL is "
        "only measured on the task's own prompts.",
        predicts={"skill-lost": ALWAYS, "skill-lost-while-task-improves": USUALLY, "skill-falls-with-kl": OFTEN,
                  "RWD004": USUALLY, "pooled-variety-lost": SOMETIMES},
        decided_by=("skill-lost-while-task-improves",),
        look_alikes={
            "H1": "There the task's own gold falls.",
            "H6": "There answers are refused, not wrong.",
            "D5": "A template error in the evaluation lowers the SFT model's result too: measure it the same way.",
        },
        changes=(
            Change("code.ptx", "mix in the loss on pre-training or SFT text (InstructGPT: weight 27.8)"),
            Change("ppo.learning_rate", lambda rate: rate / 3, {"trl": "learning_rate", "verl": "actor.optim.lr"}),
            Change("model.lora_rank", "train adapters instead of all weights, or average weights with the SFT model"),
        ),
        why="More KL on the task's prompts does not restore a skill that they never ask for; its own text does.",
        would_overturn="The SFT model does no better through the same evaluation.",
        references="Ouyang et al. 2022 (arXiv 2203.02155).",
    ),
)  # fmt: skip
