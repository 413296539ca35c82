"""Twenty-seven answers worked out by hand, to the digits in tests/known_answers.json. float64 throughout."""

import json
import math
from pathlib import Path

import pytest
import torch

from regard import ops
from regard.errors import ConfigError
from regard.stages import STAGES, check_order

ANSWERS = json.loads((Path(__file__).parents[1] / "known_answers.json").read_text(encoding="utf-8"))
EXACT = {"rtol": 1e-9, "atol": 1e-12}
SIX_DIGITS = {"rtol": 0.0, "atol": 6e-7}
"""For answers printed with six decimals."""


def answer(key):
    return ANSWERS[key]["inputs"], ANSWERS[key]["expect"]


def tensor(*numbers, requires_grad=False):
    return torch.tensor(numbers, dtype=torch.float64, requires_grad=requires_grad)


def close(got, want, **tolerance):
    torch.testing.assert_close(
        torch.as_tensor(got, dtype=torch.float64), torch.as_tensor(want, dtype=torch.float64), **(tolerance or EXACT)
    )


def pair(chosen, rejected, **kwargs):
    return ops.pairwise_loss(tensor(chosen), tensor(rejected), num_pairs=1, **kwargs)


def test_known_answer_KA01_reward_model_scores():
    inputs, expect = answer("KA01")
    for name in "AB":
        chosen, rejected = inputs[name]
        score = tensor(chosen, requires_grad=True)
        out = ops.pairwise_loss(score, tensor(rejected), num_pairs=1)
        out.loss.backward()
        close(out.margin_sum, expect[f"margin_{name}"])
        close(out.loss, expect[f"loss_{name}"])
        close(torch.exp(-out.loss.detach()), expect[f"p_{name}"])
        close(score.grad, [expect[f"grad_pref_{name}"]])
        assert bool(out.correct_count == 1) is expect["both_correct"]
    assert min("AB", key=lambda name: pair(*inputs[name]).loss) == expect["lower_loss"]


def test_known_answer_KA02_which_outcomes_are_penalised():
    inputs, expect = answer("KA02")
    outs = [pair(*scores) for scores in inputs["pairs"]]
    close([o.loss for o in outs], expect["bt_loss"])
    assert [not o.correct_count for o in outs] == expect["penalised"]
    assert [bool(o.loss >= expect["threshold"] - 1e-12) for o in outs] == expect["penalised"]


def test_known_answer_KA03_tie():
    inputs, expect = answer("KA03")
    close(pair(*inputs["pair"]).loss, expect["loss"])


def test_known_answer_KA04_shift_invariance():
    inputs, expect = answer("KA04")
    chosen, rejected = inputs["A"]
    close(pair(chosen + inputs["shift"], rejected + inputs["shift"]).loss, expect["loss"])


def test_known_answer_KA05_plackett_luce_probability():
    inputs, expect = answer("KA05")
    # two items: the first is drawn with Pr when its odds are Pr / (1 - Pr); the last draw is certain
    scores = tensor([math.log(inputs["pr"]), math.log(1 - inputs["pr"])])
    close(ops.plackett_luce_loss(scores, torch.ones(1, 2), num_lists=1), expect["loss"])


def test_known_answer_KA06_plackett_luce_and_pairs_differ():
    inputs, expect = answer("KA06")
    scores, mask = tensor(inputs["scores"]), torch.ones(1, 3)
    loss = ops.plackett_luce_loss(scores, mask, num_lists=1)
    close(loss, expect["loss"])
    close(torch.exp(-loss), expect["prob"])
    close(ops.listwise_pairwise_loss(scores, mask, num_lists=1), expect["pair_norm_N_Nminus1"])
    better, worse = zip(*ops.ranking_to_pairs(inputs["scores"]), strict=True)
    close(ops.pairwise_loss(tensor(*better), tensor(*worse), num_pairs=1).loss, expect["pair_sum"])
    close(ops.pairwise_loss(tensor(*better), tensor(*worse), num_pairs=3).loss, expect["pair_mean"])


def test_known_answer_KA07_listwise_to_pairs():
    inputs, expect = answer("KA07")
    assert [list(p) for p in ops.ranking_to_pairs(inputs["ranking"])] == expect["pairs"]


def test_known_answer_KA08_eos_reward():
    inputs, expect = answer("KA08")
    close(ops.eos_reward(tensor(inputs["R"]), torch.ones(1, len(inputs["tokens"]))), [expect["r"]])


def test_known_answer_KA09_td_advantage():
    inputs, expect = answer("KA09")
    rewards, values = tensor([inputs["r"], 0.0]), tensor([inputs["V"], inputs["Vn"]])
    out = ops.td_advantages(rewards, values, torch.ones(1, 2), gamma=inputs["gamma"])
    close(out.advantages[0, 0], expect["A"])


@pytest.mark.parametrize(("key", "gae_lambda"), [("lam0", 0.0), ("lam095", 0.95), ("lam1", 1.0)])
def test_known_answer_KA10_gae_on_eos_only_reward(key, gae_lambda):
    inputs, expect = answer("KA10")
    rewards, values, mask = tensor(inputs["r"]), tensor(inputs["V"]), torch.ones(1, 4)
    out = ops.gae(rewards, values, mask, gamma=inputs["gamma"], gae_lambda=gae_lambda)
    close(out.advantages, [expect[key]])
    if gae_lambda == 0:
        close(ops.td_advantages(rewards, values, mask, gamma=inputs["gamma"]).advantages, [expect[key]])


def test_known_answer_KA11_worse_than_expected():
    inputs, expect = answer("KA11")
    out = ops.gae(tensor([inputs["R"]]), tensor([inputs["V"]]), torch.ones(1, 1), gamma=1.0, gae_lambda=1.0)
    close(out.advantages, [[expect["A"]]])


def test_known_answer_KA12_three_action_values():
    inputs, expect = answer("KA12")
    q = tensor(*inputs["Q"]).unsqueeze(1)  # three one-token responses
    out = ops.td_advantages(q, torch.full_like(q, inputs["V"]), torch.ones(3, 1), gamma=1.0)
    close(out.advantages.squeeze(1), expect["A"])


def test_known_answer_KA13_one_policy_gradient_step():
    inputs, expect = answer("KA13")
    pi = tensor(*inputs["pi"])
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    logprobs = ops.logprobs_from_logits(logits.expand(3, 1, 3), torch.arange(3).unsqueeze(1))
    # the exact expectation: every action once, its advantage weighted with its probability
    loss = ops.a2c_loss(logprobs, (pi * tensor(*inputs["A"])).unsqueeze(1), torch.ones(3, 1), num_loss_tokens=1)
    loss.backward()
    close(-logits.grad, expect["grad"])
    close(torch.softmax(logits.detach() - logits.grad, 0), expect["new_pi"], **SIX_DIGITS)


def test_known_answer_KA14_zero_advantage():
    inputs, expect = answer("KA14")
    other = math.log((1 - math.exp(inputs["logp"])) / 2)
    logits = tensor(inputs["logp"], other, other, requires_grad=True)
    logprobs = ops.logprobs_from_logits(logits[None, None], torch.zeros(1, 1, dtype=torch.long))
    close(logprobs.detach(), [[inputs["logp"]]])
    loss = ops.a2c_loss(logprobs, tensor([inputs["A"]]), torch.ones(1, 1), num_loss_tokens=1)
    loss.backward()
    assert loss.item() == expect["term"]
    assert logits.grad.tolist() == expect["grad"]


def test_known_answer_KA15_penalty_when_policies_agree():
    inputs, expect = answer("KA15")
    got = ops.kl_penalty(tensor([inputs["logp"]]), tensor([inputs["logp_ref"]]), torch.ones(1, 1))
    assert got.tolist() == [expect["penalty"]]


def test_known_answer_KA16_yes_or_affirmative():
    inputs, expect = answer("KA16")
    logprobs, ref_logprobs = tensor(*inputs["pi"]).log()[:, None], tensor(*inputs["ref"]).log()[:, None]
    got = ops.kl_penalty(logprobs, ref_logprobs, torch.ones(2, 1))
    close(got, [expect["pen_A"], expect["pen_B"]])
    assert "AB"[int(got.argmax())] == expect["larger"]


@pytest.mark.parametrize("beta", ["100", "1", "0.1"])
def test_known_answer_KA17_kl_coef_sweep(beta):
    inputs, expect = answer("KA17")
    ref, scores = tensor(*inputs["ref"]), tensor(*inputs["r"])
    # natural-gradient ascent: for softmax logits the step is the advantage, here the shaped reward of each action
    logits = ref.log()
    for _ in range(60):
        logprobs = ops.logprobs_from_logits(logits.expand(3, 1, 3), torch.arange(3).unsqueeze(1))
        shaped = ops.shaped_reward(scores, logprobs, ref.log().unsqueeze(1), torch.ones(3, 1), float(beta))
        logits = logits + 0.5 / float(beta) * shaped.rewards.squeeze(1)
    pi, want = torch.softmax(logits, 0), expect[beta]
    close(pi, want["pi"], **SIX_DIGITS)
    close(ops.kl_exact(logits, ref.log()), want["KL"], **SIX_DIGITS)
    close(pi @ scores, want["Er"], **SIX_DIGITS)


@pytest.mark.parametrize("form", ["course", "standard"])
def test_known_answer_KA18_clip_course_and_standard(form):
    inputs, expect = answer("KA18")
    for (advantage, ratio), term, slope in zip(inputs["rows"], expect[form], expect[f"{form}_grad"], strict=True):
        logprob = tensor([math.log(ratio)], requires_grad=True)
        out = ops.ppo_clip_loss(
            logprob, tensor([0.0]), tensor([float(advantage)]), torch.ones(1, 1),
            clip_range=0.2, num_loss_tokens=1, form=form,
        )  # fmt: skip
        out.loss.backward()
        close(-out.loss.detach(), term)
        close(-logprob.grad / ratio, [[slope]])  # d ratio / d logprob = ratio
        assert (out.clip_hi_count + out.clip_lo_count).item() == (slope == 0)


def test_known_answer_KA19_gradients_of_kl_estimators():
    inputs, expect = answer("KA19")
    ref = tensor(*inputs["ref"]).log()

    def gradient(objective):
        theta = tensor(*inputs["theta"], requires_grad=True)
        objective(theta).backward()
        return theta.grad

    def as_loss(estimator):
        def objective(theta):
            logprobs = torch.log_softmax(theta, 0)
            return (logprobs.exp().detach() * estimator(logprobs, ref)).sum()

        return objective

    close(ops.kl_exact(tensor(*inputs["theta"]), ref), expect["KL"], **SIX_DIGITS)
    close(gradient(lambda theta: ops.kl_exact(theta, ref)), expect["true"], **SIX_DIGITS)
    for name in ("k1", "k2", "k3"):
        close(gradient(as_loss(getattr(ops, f"kl_{name}"))), expect[f"{name}_as_loss"], **SIX_DIGITS)


def test_known_answer_KA20_ensemble():
    inputs, expect = answer("KA20")
    close(ops.ensemble_score(tensor(*inputs["scores"])), expect["mean"])
    close(ops.ensemble_score(tensor(*inputs["scores2"]), tensor(*inputs["w"])), expect["combined"])


def test_known_answer_KA21_segment_sum():
    inputs, expect = answer("KA21")
    close(ops.segment_score(tensor(inputs["seg"])), [expect["total"]])


def test_known_answer_KA22_reward_model_regulariser():
    inputs, expect = answer("KA22")
    got = [ops.centering_penalty(tensor(a), tensor(b), num_pairs=1) for a, b in (inputs["s1"], inputs["s2"])]
    close(got, expect["pen"])


def test_known_answer_KA23_break_even_kl_coef():
    inputs, expect = answer("KA23")
    close(ops.break_even_kl_coef(inputs["dr"], inputs["dKL"]), expect["beta_star"])


def test_known_answer_KA24_break_even_of_one_sample():
    inputs, expect = answer("KA24")
    close(ops.break_even_kl_coef(inputs["r"] - inputs["V"], inputs["logratio"]), expect["beta_star"])
    for beta, want in ((0.02, expect["A_at_0_02"]), (0.1, expect["A_at_0_10"])):
        mask = torch.ones(1, 1)
        shaped = ops.shaped_reward(tensor(inputs["r"]), tensor([-1.0]), tensor([-1.0 - inputs["logratio"]]), mask, beta)
        close(ops.td_advantages(shaped.rewards, tensor([inputs["V"]]), mask, gamma=1.0).advantages, [[want]])


def test_known_answer_KA25_state_value():
    inputs, expect = answer("KA25")
    # half the time the reward of 10 comes at once, half the time one step later
    rewards, mask = tensor([10.0, 0.0], [0.0, 10.0]), torch.ones(2, 2)
    close(ops.reward_to_go(rewards, mask, gamma=inputs["gamma"])[:, 0].mean(), expect["V"])


def test_known_answer_KA26_dpo_loss():
    inputs, expect = answer("KA26")
    out = ops.dpo_loss(
        *(tensor(float(inputs[key])) for key in ("lp_w", "lp_l", "ref_w", "ref_l")), beta=inputs["beta"], num_pairs=1
    )
    close(out.loss, expect["loss"])


def test_known_answer_KA27_stage_order():
    _, expect = answer("KA27")
    assert list(STAGES) == expect["four_stage"]
    check_order({"sft", "rm"}, "ppo")
    for done, stage in ((set(), "rm"), ({"sft"}, "ppo"), ({"rm"}, "ppo"), ({"sft", "rm"}, "eval")):
        with pytest.raises(ConfigError, match=f"'{stage}' needs"):
            check_order(done, stage)
    with pytest.raises(ConfigError, match="no stage 'dance'"):
        check_order(set(), "dance")
