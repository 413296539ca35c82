"""Break every op in turn and see a test go red: `python benchmarks/sabotage_ops.py`.

A test that cannot fail proves nothing. Each mutation flips a sign, drops a mask or changes a constant inside one public
function. The mutated sources go to a temporary directory, and the one test file that should notice runs against them.
Only a failing test (pytest's exit status 1) counts as caught; a file that no longer imports does not.

One process imports torch and forks a child for each mutation, about two seconds each. Last line: JSON with the counts.
Exit status 0 if all are caught and every public op has at least one mutation, else 1.
"""

import ast
import contextlib
import inspect
import io
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

os.environ["REGARD_HYPOTHESIS"] = "quick"
os.environ["OMP_NUM_THREADS"] = "1"
sys.dont_write_bytecode = True

import hypothesis  # noqa: E402, F401  (imported before the fork, so that no child pays for it)
import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]


class Mutation(NamedTuple):
    function: str
    file: str
    old: str
    new: str
    test: str


def mutations(file: str, test: str, *rows: tuple[str, str, str]) -> list[Mutation]:
    return [Mutation(function, f"regard/{file}", old, new, f"tests/ops/{test}") for function, old, new in rows]


MUTATIONS = [
    *mutations(
        "ops/masking.py", "test_masking.py",
        ("zero_outside", "mask.bool(), x,", "torch.ones_like(mask).bool(), x,"),
        ("zero_outside", "mask.bool(), x,", "~mask.bool(), x,"),
        ("masked_sum", "zero_outside(x, mask).sum()", "x.sum()"),
        ("masked_sum", "zero_outside(x, mask).sum()", "zero_outside(x, mask).mean()"),
        ("masked_mean", "mask.bool().sum().clamp(min=1)", "mask.numel()"),
        ("masked_mean", ".clamp(min=1)", ""),
        ("masked_var", "- masked_mean(x, mask)", "+ masked_mean(x, mask)"),
        ("masked_var", ".square(), mask)", ".abs(), mask)"),
        ("masked_whiten", "if center else inside", "if not center else inside"),
        ("masked_whiten", "torch.rsqrt(", "torch.sqrt("),
        ("masked_whiten", "return zero_outside(shifted * torch.rsqrt(masked_var(x, mask) + WHITEN_EPSILON), mask)",
         "return shifted * torch.rsqrt(masked_var(x, mask) + WHITEN_EPSILON)"),
    ),
    *mutations(
        "ops/masking.py", "losses/test_loss_properties.py",
        ("zero_outside", "torch.where(mask.bool(), x, torch.zeros_like(x))", "x * mask"),
        ("zero_outside", "check_same_shape(x=x, mask=mask)", "pass"),
    ),
    *mutations(
        "ops/logprobs.py", "test_token_logprobs.py",
        ("logprobs_from_logits", "torch.log_softmax(at_least_float32(logits), -1)", "at_least_float32(logits)"),
        ("logprobs_from_logits", "torch.log_softmax(at_least_float32(logits), -1)", "torch.log_softmax(logits, -1)"),
        ("logprobs_from_logits", ", -1).gather", ", 0).gather"),
        ("entropy_from_logits", "return -torch.where", "return torch.where"),
        ("entropy_from_logits", "torch.where(logprobs.isneginf(), 0.0, logprobs)", "logprobs"),
        ("entropy_from_logits", ".mul(logprobs.exp())", ""),
        ("at_least_float32", "return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x", "return x"),
        ("at_least_float32", "return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x",
         "return x.float()"),
        ("chunked_logprobs", "of_trained(hidden, weight, tokens, with_entropy, chunk_size)",
         "_chunk(hidden, weight, tokens, with_entropy)"),
        ("chunked_logprobs", "len(tokens) <= chunk_size", "len(tokens) >= chunk_size"),
        ("chunked_logprobs", "slice(start, start + chunk_size)", "slice(start, start + chunk_size - 1)"),
        ("chunked_logprobs", "_chunk(hidden, weight,", "_chunk(hidden.detach(), weight,"),
        ("chunked_logprobs", "_chunk(hidden, weight,", "_chunk(hidden, weight.detach(),"),
        ("chunked_logprobs", "torch.cat(entropies) if with_entropy else None", "torch.cat(entropies)"),
        ("_chunk", "entropy_from_logits(logits.detach())", "entropy_from_logits(logits)"),
        ("_chunk", "at_least_float32(output_logits(hidden, weight))", "output_logits(hidden, weight) / 2"),
        ("_TrainedEmbedding", "torch.log_softmax(logits, -1)", "logits"),
        ("_TrainedEmbedding", "- logprobs[-1])", "+ logprobs[-1])"),
        ("_TrainedEmbedding", ".mul_(-factor)", ".mul_(factor)"),
        ("_TrainedEmbedding", "tokens[rows].unsqueeze(-1), factor)", "tokens[rows].unsqueeze(-1), factor.abs())"),
        ("_TrainedEmbedding", "of_hidden[rows] = grad @ weight", "of_hidden[rows] += grad @ weight * 2"),
        ("_TrainedEmbedding", "of_weight.addmm_(", "of_weight.addmm("),
        ("_TrainedEmbedding", "-(every.exp() * every)", "(every.exp() * every)"),
        ("_TrainedEmbedding", "ctx.mark_non_differentiable(entropy)", "pass"),
        ("_FrozenEmbedding", "torch.log_softmax(logits, -1)", "logits"),
        ("_FrozenEmbedding", "at_least_float32(weight[tokens]) - at_least_float32(expected)",
         "at_least_float32(weight[tokens]) + at_least_float32(expected)"),
        ("_FrozenEmbedding", "upstream.unsqueeze(-1) * direction", "direction"),
        ("_FrozenEmbedding", "ctx.mark_non_differentiable(entropy)", "pass"),
        ("_FrozenEmbedding", "-(logprobs.exp() * logprobs)", "(logprobs.exp() * logprobs)"),
        ("output_logits", "slice(start, start + VOCABULARY_BLOCK)", "slice(start, start + VOCABULARY_BLOCK - 1)"),
    ),
    *mutations(
        "ops/kl.py", "test_kl_estimators.py",
        ("kl_k1", "return logprobs - ref_logprobs", "return ref_logprobs - logprobs"),
        ("kl_k1", "return logprobs - ref_logprobs", "return logprobs - ref_logprobs.abs()"),
        ("kl_k2", "return 0.5 * ", "return 1.0 * "),
        ("kl_k2", "(logprobs - ref_logprobs).square()", "(logprobs + ref_logprobs).square()"),
        ("kl_k3", "d = ref_logprobs - logprobs\n", "d = logprobs - ref_logprobs\n"),
        ("kl_k3", "torch.expm1(d) - d", "torch.expm1(d) + d"),
        ("kl_k3", "torch.expm1(d) - d", "torch.exp(d) - d"),
        ("kl_exact", "(logprobs.exp() * log_ratio)", "(ref_logprobs.exp() * log_ratio)"),
        ("kl_exact", "logprobs - ref_logprobs)", "ref_logprobs - logprobs)"),
        ("kl_exact", "torch.where(logprobs.isneginf(), 0.0, logprobs - ref_logprobs)", "logprobs - ref_logprobs"),
        ("kl_exact", "(logprobs.exp() * log_ratio)", "(logprobs.exp().detach() * log_ratio)"),
    ),
    *mutations(
        "ops/rewards.py", "test_token_rewards.py",
        ("eos_reward", "positions, -1).amax(1", "positions, 99).amin(1"),
        ("eos_reward", "response_mask.bool(), positions, -1)", "torch.ones_like(response_mask).bool(), positions, -1)"),
        ("eos_reward", "positions == last", "positions <= last"),
        ("shaped_reward", "- kl_coef * kl, kl", "+ kl_coef * kl, kl"),
        ("shaped_reward", "zero_outside(kl_k1(logprobs, ref_logprobs), response_mask)",
         "kl_k1(logprobs, ref_logprobs)"),
        ("shaped_reward", ", response_mask).detach()\n", ", response_mask)\n"),
        ("shaped_reward", "eos_reward(scores, response_mask).detach()", "eos_reward(scores, response_mask)"),
        ("kl_penalty", "zero_outside(kl_k1(logprobs, ref_logprobs), response_mask)", "kl_k1(logprobs, ref_logprobs)"),
        ("kl_penalty", "kl_k1(logprobs, ref_logprobs)", "kl_k1(ref_logprobs, logprobs)"),
        ("break_even_kl_coef", "return score_gap / kl_gap", "return kl_gap / score_gap"),
        ("ensemble_score", "/ scores.shape[0]", "/ weights.sum()"),
        ("ensemble_score", "return scores.mean(0)", "return scores.amin(0)"),
        ("segment_score", "segments if segment_mask is None else zero_outside(segments, segment_mask)", "segments"),
    ),
    *mutations(
        "ops/rewards.py", "test_known_answers.py",
        ("ensemble_score", "/ scores.shape[0]", ""),
        ("segment_score", ").sum(1)", ").mean(1)"),
    ),
    *mutations(
        "ops/advantages.py", "test_advantages.py",
        ("gae", "- values[:, t]\n", "+ values[:, t]\n"),
        ("gae", "gamma * gae_lambda * running", "gae_lambda * running"),
        ("gae", "gamma * gae_lambda * running", "gamma * running"),
        ("gae", "+ gamma * next_value", "+ next_value"),
        ("gae", "next_value = torch.where(mask[:, t], values[:, t], next_value)", "next_value = values[:, t]"),
        ("gae", "delta + gamma * gae_lambda * running, running)",
         "delta + gamma * gae_lambda * running, 0.0 * running)"),
        ("gae", "rewards, values = zero_outside(rewards, mask), zero_outside(values, mask)", "pass"),
        ("gae", "advantages = zero_outside(advantages, mask)", "pass"),
        ("gae", "advantages + values)", "advantages - values)"),
        ("leave_one_out_advantages", "* group_size / (group_size - 1)", ""),
        ("leave_one_out_advantages", "- groups.mean(1, keepdim=True)", "- groups.mean()"),
        ("leave_one_out_advantages", "advantages.flatten(), total,", "advantages.flatten(), total * 2,"),
        ("group_relative_advantages", "- groups.mean(1, keepdim=True)", "- groups.mean()"),
        ("group_relative_advantages", "groups.std(1, keepdim=True)", "groups.std(1, keepdim=True, correction=0)"),
        ("group_relative_advantages", " + GROUP_EPSILON", ""),
        ("_group_totals", "zero_outside(rewards, response_mask).sum(1)", "rewards.sum(1)"),
        ("_at_every_token", "zero_outside(x.unsqueeze(1).expand(shape), response_mask)",
         "x.unsqueeze(1).expand(shape)"),
        ("td_advantages", "rewards + gamma * next_values", "rewards + next_values"),
        ("td_advantages", "returns - values, returns", "returns + values, returns"),
        ("td_advantages", "zero_outside(rewards + gamma * next_values, mask)", "rewards + gamma * next_values"),
        ("td_advantages", "torch.where(mask[:, t], values[:, t], following)", "values[:, t]"),
        ("td_advantages", "rewards, values = zero_outside(rewards, mask), zero_outside(values, mask)", "pass"),
        ("reward_to_go", "+ gamma * running", "+ running"),
        ("reward_to_go", "rewards[:, t] + gamma * running, running)",
         "rewards[:, t] + gamma * running, 0.0 * running)"),
        ("reward_to_go", "return zero_outside(result, mask)", "return result"),
        ("_check_unit_interval", "if not 0 <= number <= 1:", "if False:"),
    ),
    *mutations(
        "ops/losses/policy.py", "losses/test_policy_loss.py",
        ("ppo_clip_loss", "loss=-zero_outside", "loss=zero_outside"),
        ("ppo_clip_loss", "loss=-zero_outside(objective, mask).sum() / num_loss_tokens",
         "loss=-zero_outside(objective, mask).mean()"),
        ("ppo_clip_loss", "torch.minimum(objective, clipped * advantages)",
         "torch.maximum(objective, clipped * advantages)"),
        ("ppo_clip_loss", "torch.minimum(ratio, clipped) * advantages", "clipped * advantages"),
        ("ppo_clip_loss", "zero_outside(logprobs - old_logprobs.detach(), mask)",
         "zero_outside(old_logprobs.detach() - logprobs, mask)"),
        ("ppo_clip_loss", "old_logprobs.detach(), mask)", "old_logprobs, mask)"),
        ("ppo_clip_loss", "zero_outside(advantages.detach(), mask)", "zero_outside(advantages, mask)"),
        ("ppo_clip_loss", "ratio.clamp(1 - clip_range, 1 + clip_range)",
         "ratio.clamp(1 - clip_range, 1 + 2 * clip_range)"),
        ("ppo_clip_loss", "low = (advantages < 0) & (ratio", "low = (advantages > 0) & (ratio"),
        ("ppo_clip_loss", "high = (advantages > 0) & (ratio", "high = (ratio"),
        ("ppo_clip_loss", "ratio_sum=zero_outside(ratio, mask).sum()", "ratio_sum=ratio.sum()"),
        ("ppo_clip_loss", "ratio_sq_sum=zero_outside(ratio.square(), mask).sum()", "ratio_sq_sum=ratio.square().sum()"),
        ("ppo_clip_loss", "torch.where(mask, ratio, -infinity).amax()", "ratio.amax()"),
        ("ppo_clip_loss", "torch.where(mask, ratio, infinity).amin()", "ratio.amin()"),
        ("ppo_clip_loss", "approx_kl_sum=0.5 * ", "approx_kl_sum="),
        ("ppo_clip_loss", "num_tokens=mask.sum()", "num_tokens=torch.tensor(mask.numel())"),
        ("a2c_loss", "return -inside", "return inside"),
        ("a2c_loss", "inside.sum() / num_loss_tokens", "inside.mean()"),
        ("a2c_loss", "zero_outside(advantages.detach(), response_mask)", "zero_outside(advantages, response_mask)"),
    ),
    *mutations(
        "ops/losses/policy.py", "losses/test_loss_properties.py",
        ("ppo_clip_loss", "zero_outside(logprobs - old_logprobs.detach(), mask)", "(logprobs - old_logprobs.detach())"),
        ("ppo_clip_loss", "check_positive(num_loss_tokens=num_loss_tokens)", "pass"),
        ("a2c_loss", "zero_outside(logprobs, response_mask)", "logprobs"),
        ("a2c_loss", "check_positive(num_loss_tokens=num_loss_tokens)", "pass"),
    ),
    *mutations(
        "ops/losses/policy.py", "test_policy_optimum.py",
        ("ppo_clip_loss", "loss=-zero_outside", "loss=zero_outside"),
    ),
    *mutations(
        "ops/losses/value.py", "losses/test_value_loss.py",
        ("clipped_value_loss", "loss=0.5 * worst", "loss=worst"),
        ("clipped_value_loss", "torch.maximum(error, clipped_error)", "torch.minimum(error, clipped_error)"),
        ("clipped_value_loss", "old_values + (values - old_values).clamp", "values + (values - old_values).clamp"),
        ("clipped_value_loss", "(clipped_error > error)", "(clipped_error >= error)"),
        ("clipped_value_loss", "zero_outside(returns.detach(), mask)", "zero_outside(returns, mask)"),
        ("clipped_value_loss", "zero_outside(old_values.detach(), mask)", "zero_outside(old_values, mask)"),
        ("clipped_value_loss", "error_sq_sum=error.detach()", "error_sq_sum=worst.detach()"),
        ("clipped_value_loss", "error = (values - returns)", "error = (values + returns)"),
    ),
    *mutations(
        "ops/losses/value.py", "losses/test_loss_properties.py",
        ("clipped_value_loss", "    values = zero_outside(values, mask)\n", ""),
    ),
    *mutations(
        "ops/losses/ranking.py", "losses/test_ranking_loss.py",
        ("pairwise_loss", "difference = score_chosen - score_rejected", "difference = score_rejected - score_chosen"),
        ("pairwise_loss", "logsigmoid(difference - m)", "logsigmoid(difference + m)"),
        ("pairwise_loss", "logsigmoid(-difference - m)", "logsigmoid(-difference + m)"),
        ("pairwise_loss", "(1 - p) * logsigmoid", "p * logsigmoid"),
        ("pairwise_loss", "(p - 0.5) > 0)", "(p - 0.5) >= 0)"),
        ("pairwise_loss", "loss=-loglikelihood.sum() / num_pairs", "loss=-loglikelihood.mean()"),
        ("pairwise_loss", "decided_count=(p != 0.5)", "decided_count=(p > 0.5)"),
        ("listwise_pairwise_loss", "(count * (count - 1))", "(count * (count + 1))"),
        ("listwise_pairwise_loss", ".triu(1)", ".tril(-1)"),
        ("listwise_pairwise_loss", ".clamp(min=1)", ""),
        ("listwise_pairwise_loss", "better_first & mask[:, :, None] & mask[:, None, :]", "better_first"),
        ("plackett_luce_loss", ".triu() & mask", ".tril() & mask"),
        ("plackett_luce_loss", " & mask[:, None, :]\n", "\n"),
        ("plackett_luce_loss", "return -zero_outside(scores - rest", "return -zero_outside(scores + rest"),
        ("pointwise_loss", "- scores).square()", "- scores).abs()"),
        ("pointwise_loss", ".sum() / num_scores", ".sum()"),
        ("centering_penalty", "(score_chosen + score_rejected).square()", "(score_chosen - score_rejected).square()"),
        ("centering_penalty", ".square().sum()", ".sum().square()"),
        ("centering_penalty", "score_chosen.numel() if num_pairs is None else num_pairs", "score_chosen.numel()"),
        ("ranking_to_pairs", "ranking[i + 1 :]", "ranking[i:]"),
        ("ranking_to_pairs", "(better, worse) for", "(worse, better) for"),
    ),
    *mutations(
        "ops/losses/ranking.py", "losses/test_loss_properties.py",
        ("plackett_luce_loss", "scores = zero_outside(ranked_scores, mask)", "scores = ranked_scores"),
        ("listwise_pairwise_loss", "scores = zero_outside(ranked_scores, mask)", "scores = ranked_scores"),
        ("pointwise_loss", "ratings.detach().to(scores.dtype) - scores",
         "ratings.detach().to(scores.dtype) - scores.mean()"),
    ),
    *mutations(
        "ops/losses/sft.py", "losses/test_sequence_losses.py",
        ("sft_loss", "return -masked_sum", "return masked_sum"),
        ("sft_loss", "masked_sum(logprobs, loss_mask)", "logprobs.sum()"),
        ("sft_loss", "/ num_loss_tokens", "/ logprobs.numel()"),
    ),
    *mutations(
        "ops/losses/dpo.py", "losses/test_sequence_losses.py",
        ("dpo_loss", "logsigmoid(chosen - rejected)", "logsigmoid(rejected - chosen)"),
        ("dpo_loss", "beta * (chosen_logprobs - ref_chosen_logprobs.detach())", "beta * chosen_logprobs"),
        ("dpo_loss", "ref_rejected_logprobs.detach()", "ref_rejected_logprobs"),
        ("dpo_loss", "rejected = beta * (", "rejected = ("),
        ("dpo_loss", ".sum() / num_pairs", ".sum()"),
        ("dpo_loss", "(chosen > rejected)", "(chosen >= rejected)"),
        ("dpo_loss", "check_positive(beta=beta, num_pairs=num_pairs)", "check_positive(num_pairs=num_pairs)"),
    ),
    *mutations(
        "stages.py", "test_known_answers.py",
        ("check_order", "NEEDS[stage] - done", "done - NEEDS[stage]"),
        ("check_order", "if missing:", "if False:"),
    ),
]  # fmt: skip


def mutate(source: str, mutation: Mutation) -> str:
    """Replace the one occurrence of `old` after the docstring of the function or class."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == mutation.function:
            first = node.body[1] if ast.get_docstring(node) else node.body[0]
            lines = source.splitlines(keepends=True)
            body = "".join(lines[first.lineno - 1 : node.end_lineno])
            assert body.count(mutation.old) == 1, f"{body.count(mutation.old)} times in the function: {mutation}"
            changed = body.replace(mutation.old, mutation.new)
            return "".join(lines[: first.lineno - 1]) + changed + "".join(lines[node.end_lineno :])
    raise AssertionError(f"no such function: {mutation}")


def run_tests(mutation: Mutation | None) -> int:
    """Exit status of pytest, in a forked child, against a copy of the sources."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "src"
        shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
        if mutation:
            file = copy / mutation.file
            file.write_text(mutate(file.read_text(encoding="utf-8"), mutation), encoding="utf-8")
        child = os.fork()
        if child == 0:
            status = 70
            try:
                sys.path.insert(0, str(copy))
                import regard

                assert Path(str(regard.__file__)).is_relative_to(copy), f"not the copy: {regard.__file__}"
                tests = str(ROOT / (mutation.test if mutation else "tests/ops"))
                options = ["-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", "-o", "pythonpath="]
                heard = io.StringIO()
                with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
                    status = int(pytest.main([*options, "--rootdir", str(ROOT), tests]))
                if status not in (0, 1):
                    print(heard.getvalue()[-2000:], flush=True)
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def public_functions() -> set[str]:
    sys.path.insert(0, str(ROOT / "src"))
    from regard import ops

    names = {name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
    for module in [name for name in sys.modules if name.split(".")[0] == "regard"]:
        del sys.modules[module]  # a child imports its own, mutated copy
    return names


def main() -> int:
    started = time.monotonic()
    missing = sorted(public_functions() - {m.function for m in MUTATIONS})
    if run_tests(None) != 0:
        print("the tests are red before anything is broken; run `pytest tests/ops`")
        return 1
    caught = 0
    for mutation in MUTATIONS:
        status = run_tests(mutation)
        caught += status == 1
        verdict = {0: "SURVIVED", 1: "caught"}.get(status, f"DID NOT RUN ({status})")
        change = f"{mutation.old.strip()!r} -> {mutation.new.strip()!r}"
        print(f"{verdict:9} {mutation.function:24} {change}  [{mutation.test}]", flush=True)
    result = {
        "mutations": len(MUTATIONS),
        "caught": caught,
        "survived": len(MUTATIONS) - caught,
        "ops_without_mutation": missing,
        "seconds": round(time.monotonic() - started, 1),
    }
    print(json.dumps(result))
    return 0 if caught == len(MUTATIONS) and not missing else 1


if __name__ == "__main__":
    sys.exit(main())
