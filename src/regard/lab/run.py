"""One lab run: SFT, reward model and PPO of a workload through the code of `regard.train`, and its run record.

The record says nothing of what was planted; that stands beside the directory, in `<out>.truth.json`. Stages before PPO
depend on configuration and data alone, so they are kept in a cache and copied from there when both are the same.
"""

import functools
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from regard.data.assets import default_cache
from regard.errors import ConfigError
from regard.lab.controls import CONTROLS, apply_control
from regard.lab.data import (
    ExactJudge,
    GroupedPrompts,
    eval_prompts,
    ppo_prompts,
    pretrain_examples,
    probes,
    reward_data,
    sft_examples,
)
from regard.lab.faults import FAULTS, apply_fault
from regard.lab.setup import Setup, Severity, Start
from regard.lab.workloads import workload_named
from regard.models.checkpoints import replace_directory
from regard.models.heads import RewardModel
from regard.models.loading import build_scratch, load_causal, save_causal
from regard.models.policy import PolicyAndValue, load_policy
from regard.models.sequences import make_batch, response_hidden, response_logprobs
from regard.ops import sft_loss
from regard.rollout.generator import PolicyGenerator
from regard.runlog.files import to_json, write_atomic
from regard.runlog.writer import RunWriter
from regard.train.corpus import Example
from regard.train.distributed import World
from regard.train.evaluate import run_eval
from regard.train.kl_control import make_kl_controller
from regard.train.pipeline import Hashed, artifact_hashes, calibrate_scores, summarise, write_lineage
from regard.train.ppo import Parts, run_ppo
from regard.train.reward_model import train_reward_model
from regard.train.seeds import derive
from regard.train.sft import train_on_examples
from regard.train.stage import Context, Meter, prepare_process

PROBE_EVERY = 5
"""Iterations between two measurements of the skill that is not trained."""


def run_lab(
    workload: str,
    seed: int,
    fault: str | tuple[str, ...] | None = None,
    severity: Severity = "medium",
    start: Start = "start",
    *,
    control: str | None = None,
    changes: Mapping[str, Any] | None = None,
    out: Path,
    cache: Path | None = None,
    keep_models: bool = True,
) -> dict[str, Any]:
    """Train one run into the directory `out` and write `<out>.truth.json` beside it; returns the truth.

    Args:
        fault: id of a cause, or several planted together; None plants nothing.
        control: name of a control from `regard.lab.controls`; it excludes a fault.
        changes: configuration keys to values, set after everything else, as a remedy would be.
        cache: where finished SFT and reward models are kept; default `lab/` in the cache directory.
        keep_models: leave the weights of every stage in the record.
    Raises:
        ConfigError: unknown workload, fault, severity, start or control.
        RunLogError: `out` holds a run already.
    """
    faults = (fault,) if isinstance(fault, str) else tuple(fault or ())
    if control and faults:
        raise ConfigError("A run is either a control or has a fault. Give one of the two.")
    setup = Setup(workload_named(workload), seed, severity, start)
    for one in faults:
        apply_fault(one, setup)
    if control:
        apply_control(control, setup)
    for key, value in (changes or {}).items():
        setup.set(key, value)
    torch.set_num_threads(1)
    prepare_process()
    train(setup, out, cache or default_cache() / "lab", keep_models=keep_models)
    truth = {
        "workload": workload,
        "seed": seed,
        "faults": [truth_of(one, setup) for one in faults],
        "control": {"name": control, "kind": CONTROLS[control].kind} if control else None,
    }
    if not faults and not control:
        truth["control"] = {"name": "healthy", "kind": "healthy"}
    write_atomic(truth_path(out), (to_json(truth, indent=2) + "\n").encode(), sync=False)
    return truth


def truth_path(out: Path) -> Path:
    return out.with_name(out.name + ".truth.json")


def truth_of(fault: str, setup: Setup) -> dict[str, Any]:
    """`root_onset` in steps as the record counts them: iteration i is logged as step i + 1; 0 is before the first."""
    mid = setup.start == "mid"
    return {
        "id": fault,
        "stage": FAULTS[fault].stage,
        "severity": setup.severity,
        "start": setup.start,
        "root_onset": {"stage": "ppo", "step": setup.onset + 1 if mid else 0},
    }


def train(setup: Setup, out: Path, cache: Path, *, keep_models: bool) -> None:
    """All stages of `setup` into the record `out`."""
    config = setup.recipe()
    plain = config.model_dump(mode="json")
    argv = ["regard", "run", setup.workload.name, "--out", out.name]
    with RunWriter(out, config=plain, seed=setup.seed, argv=argv, throwaway=True) as run:
        context = setup.context = Context(config, run, World(0, 1), quiet=True)
        tokenizer = setup.workload.tokenizer()
        stages = _Stages(context, cache)
        base_examples = pretrain_examples(setup, tokenizer)
        stages.make("pretrain", base_examples, lambda: _pretrain(setup, tokenizer, base_examples))
        examples = sft_examples(setup, tokenizer)
        stages.make("sft", examples, lambda: _fine_tune(context, examples))
        data = reward_data(setup)
        prompts = ppo_prompts(setup, tokenizer)
        stages.make(
            "rm",
            (data, prompts, config.ppo.max_response_tokens, config.ppo.temperature),
            lambda: _reward_model(setup, tokenizer, data, prompts),
        )
        meter = Meter()
        run.set_stage("ppo", "running")
        parts, reference, reward_model = assemble(setup, tokenizer, prompts)
        hashed: Any = parts.reference if hasattr(parts.reference, "sha256") else reference
        before = artifact_hashes(parts.policy, hashed, reward_model)
        run_ppo(context, parts, {"reference": hashed, "reward_model": Hashed(reward_model)}, on_broken="record")
        after = artifact_hashes(parts.policy, hashed, reward_model)
        inputs = {"sft": examples, "comparisons": data, "prompts": prompts}
        write_lineage(context, before, after, {f"{config.recipe}/{name}": digest(x) for name, x in inputs.items()})
        run.set_stage("ppo", "done", seconds=meter.seconds(), peak_memory_gb=meter.peak_gb())

        setup.clock.step = config.ppo.steps
        meter = Meter()
        quality = run_eval(context, parts, reference, eval_prompts(setup, tokenizer))
        run.write_json("stages/eval/quality.json", quality)
        run.set_stage("eval", "done", seconds=meter.seconds(), peak_memory_gb=meter.peak_gb())
        summarise(context)
    for stage in config.stages:
        shutil.rmtree(out / "stages" / stage / "checkpoints", ignore_errors=True)
        if not keep_models:
            shutil.rmtree(out / "stages" / stage / "final", ignore_errors=True)
    for change in setup.record_hooks:
        change(out)


def assemble(setup: Setup, tokenizer: Any, prompts: list[Any]) -> tuple[Parts, Any, RewardModel]:
    """The parts of stage 4, with the wrappers of the setup around them; the reference and the reward model bare."""
    context = setup.context
    config = context.config
    policy, reference = load_policy(
        context.final("sft"),
        config.model,
        value_model=config.ppo.value_model,
        temperature=config.ppo.temperature,
        seed=derive(config.seed, "ppo"),
    )
    policy.tokenizer = tokenizer
    reward_model = RewardModel.load(context.final("rm"), torch.float32)
    reward_model.tokenizer = tokenizer
    parts = Parts(
        policy=policy,
        reference=reference,
        generator=PolicyGenerator(
            policy.model,
            pad_id=tokenizer.pad_token_id,
            eos_id=tokenizer.eos_token_id,
            temperature=config.ppo.temperature,
        ),
        scorer=reward_model,
        source=GroupedPrompts(prompts, config.ppo.batch_size, setup.workload.group_size, config.ppo_seed, setup.clock),
        kl_controller=make_kl_controller(config.ppo),
        judges={"gold": ExactJudge(setup.workload.gold)},
        probe=SkillProbe(probes(setup, tokenizer), tokenizer.pad_token_id),
    )
    for change in setup.parts_hooks:
        parts = change(parts)
    return parts, reference, reward_model


class SkillProbe:
    """Probe: how well the policy still answers what it is not paid for."""

    def __init__(self, examples: list[Example], pad_id: int) -> None:
        self.batch = make_batch([e.prompt for e in examples], [e.response for e in examples], pad_id)
        self.tokens = float(self.batch.response_mask.sum())

    @torch.no_grad()
    def __call__(self, policy: PolicyAndValue, step: int) -> dict[str, float]:
        if step > 1 and step % PROBE_EVERY:
            return {}
        logprobs = response_logprobs(policy.model, response_hidden(policy.model, self.batch), self.batch).logprobs
        loss = sft_loss(logprobs, self.batch.response_mask, num_loss_tokens=self.tokens)
        return {"eval/probe_nll/token_mean": float(loss)}


# The stages before PPO


class _Stages:
    """Makes a stage, or copies it from the cache; a key covers everything that the stages up to it read."""

    def __init__(self, context: Context, cache: Path) -> None:
        self.context, self.cache = context, cache
        self.key = code_sha256()

    def make(self, stage: str, data: object, build: Callable[[], None]) -> None:
        run, section = self.context.run, getattr(self.context.config, stage)
        config = self.context.config
        facts = (self.key, stage, config.seed, config.model, config.data, section, digest(data))
        self.key = digest(facts)
        kept, target = self.cache / self.key[:24], run.path / "stages" / stage
        if (kept / "stage.json").is_file():
            shutil.copytree(kept / "files", target)
            run.set_stage(stage, "done", **json.loads((kept / "stage.json").read_text(encoding="utf-8")))
            return
        meter = Meter()
        run.set_stage(stage, "running")
        build()
        spent = {"seconds": meter.seconds(), "peak_memory_gb": meter.peak_gb()}
        run.stage(stage).close()
        run.set_stage(stage, "done", **spent)
        temporary = self.cache / f".{self.key[:24]}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(target, temporary / "files")
        (temporary / "stage.json").write_text(json.dumps(spent), encoding="utf-8")
        replace_directory(temporary, kept)


def _pretrain(setup: Setup, tokenizer: Any, examples: list[Example]) -> None:
    context = setup.context
    config = context.config
    model = build_scratch(config.model.scratch, tokenizer, derive(config.seed, "init"))
    train_on_examples(context, "pretrain", config.pretrain, model, tokenizer.pad_token_id, examples, [])
    save_causal(model, tokenizer, context.final("pretrain"))


def _fine_tune(context: Context, examples: list[Example]) -> None:
    model, tokenizer = load_causal(str(context.final("pretrain")), torch.float32)
    held_out = examples[: max(8, len(examples) // 10)]
    train_on_examples(
        context, "sft", context.config.sft, model, tokenizer.pad_token_id, examples[len(held_out) :], held_out
    )
    save_causal(model, tokenizer, context.final("sft"))


def _reward_model(setup: Setup, tokenizer: Any, data: Any, prompts: list[Any]) -> None:
    context = setup.context
    config = context.config
    if config.rm.body == "random":
        shape = setup.workload.reward_model_shape or config.model.scratch
        body = build_scratch(shape, tokenizer, derive(config.seed, "rm", "init"))
    else:
        body, _ = load_causal(str(context.final("pretrain")), torch.float32)
    reward_model = RewardModel(body.eval(), tokenizer, config.rm.max_text_tokens)
    context.run.write_json("stages/rm/evaluation.json", train_reward_model(context, reward_model, data))
    reward_model.save(context.final("rm"), body)
    calibrate_scores(context, lambda tokenizer: prompts)


def digest(value: object) -> str:
    """Of what is written in full by `repr`: tuples, dataclasses, numbers, text."""
    return hashlib.sha256(repr(value).encode()).hexdigest()


@functools.cache
def code_sha256() -> str:
    """Of the source that decides what a stage before PPO makes."""
    root = Path(__file__).parents[1]
    files = [f for package in ("ops", "models", "train") for f in sorted((root / package).rglob("*.py"))]
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()
