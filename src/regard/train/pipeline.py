"""A recipe from the first stage to the report; a stage that is done is not done again."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import yaml

from regard.config import RecipeConfig, parse_config, value_at
from regard.data.assets import fetch
from regard.data.ratings import kept_means
from regard.errors import ConfigError, RunLogError
from regard.models.checkpoints import file_sha256, replace_directory, weights_sha256, whole_or_nothing
from regard.models.heads import RewardModel
from regard.models.in_file import InFile
from regard.models.policy import FrozenReference, PolicyAndValue, load_policy
from regard.rollout.generator import PolicyGenerator
from regard.rollout.judges import VaderJudge, rater_judge, star_judge
from regard.rollout.protocols import Prompt, Scorer
from regard.runlog.jsonl import parse_object
from regard.runlog.reader import read_run
from regard.runlog.sinks import check_sinks, make_sink
from regard.runlog.writer import RunWriter
from regard.stages import STAGE_READS, check_order
from regard.train.corpus import Corpus, ReviewPrompts
from regard.train.distributed import start_world
from regard.train.evaluate import run_eval, verdict
from regard.train.kl_control import make_kl_controller
from regard.train.ppo import Parts, run_ppo
from regard.train.reward_model import run_reward_model
from regard.train.seeds import derive, uniforms
from regard.train.sft import run_pretrain, run_sft
from regard.train.stage import Context, Meter, give_back_memory, micro_batches, prepare_process

CALIBRATION_PROMPTS = 128
"""SFT samples that fix the zero and the unit of the reward model's scores."""


class Hashed:
    """A module whose weights `run_ppo` can compare with what they were."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module

    def sha256(self) -> str:
        return weights_sha256(self.module)


def run_recipe(
    config: RecipeConfig,
    out: Path,
    *,
    argv: list[str],
    resume: bool = False,
    only: str | None = None,
    start_from: Path | None = None,
    from_step: int = 0,
    sinks: tuple[str, ...] = (),
    quiet: bool = False,
    watch: Callable[[str, int, Mapping[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Run every stage of `config` that is not yet done in `out` (or `only` one) and return the summary.

    Args:
        sinks: where metrics go beside the record: tensorboard, wandb, trackio.
        start_from: another run whose finished stages are taken over as far as the configurations agree.
        watch: called with stage, step and metrics as they are logged; what it raises ends the run, resumable.
        from_step: of that run's stage 4, the checkpoint to go on from; its steps until then are taken over too.

    Raises:
        RegardError: see `RunWriter` for a directory in use or another configuration; `check_order` for a stage that is
            asked for before what it needs; `check_sinks` for a sink that cannot be made.
    """
    check_sinks(sinks)
    world = start_world()
    if config.threads or world.size > 1:
        torch.set_num_threads(config.threads or max(1, (os.cpu_count() or 1) // world.size))
    prepare_process()
    plain = (as_recorded(out, config) if resume else None) or config.model_dump(mode="json")
    run = RunWriter(out, config=plain, seed=config.seed, argv=argv, resume=resume, rank=world.rank)
    run.watch = watch
    try:
        if run.id is not None:  # rank 0: the directory is ours, so a refused run opens no sink
            run.sinks += [make_sink(name, out, run.id, plain) for name in sinks]
        if start_from is not None and world.rank == 0:
            if not run.resumed:
                adopt_stages(start_from, config, run)
            if from_step and run.stage_status("ppo") is None:  # also after a kill before stage 4
                adopt_steps(start_from, config, run, from_step)
        world.barrier()
        return _run_stages(Context(config, run, world, quiet), only)
    finally:
        run.close()


def as_recorded(out: Path, config: RecipeConfig) -> dict[str, Any] | None:
    """The configuration in the words of the record `out`, which may be of before some of our keys; None where it is
    another one, or none can be read."""
    try:
        old = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
        return old if isinstance(old, dict) and parse_config(old, str(out)) == config else None
    except (OSError, ValueError, yaml.YAMLError, ConfigError):
        return None


def adopt_stages(source: Path, config: RecipeConfig, run: RunWriter) -> list[str]:
    """Copy what `source` finished before stage 4, up to the first stage that this configuration would do differently.

    Raises:
        RunLogError: `source` is no run.
    """
    adopted = adoptable(source, config)
    for stage, facts in adopted.items():
        target = run.path / "stages" / stage
        with whole_or_nothing(target, target):
            shutil.copytree(source / "stages" / stage, target, ignore=shutil.ignore_patterns("checkpoints"))
        numbers = {key: facts.get(key) for key in ("seconds", "peak_memory_gb")}
        run.set_stage(stage, "done", **numbers, adopted_from=str(source.resolve()))
    return list(adopted)


def adoptable(source: Path, config: RecipeConfig) -> dict[str, dict[str, Any]]:
    """Stage before stage 4 ↦ what `source` says of it, up to the first that this configuration would do differently.

    Raises:
        RunLogError: `source` is no run.
    """
    old = read_run(source)
    if not old.config:
        raise RunLogError(f"{source} has no config.yaml, so what it did is not known. Give another run.")
    before = parse_config(old.config, str(source / "config.yaml")).model_dump(mode="json")  # with keys that came later
    new = config.model_dump(mode="json")
    found: dict[str, dict[str, Any]] = {}
    for stage in [stage for stage in config.stages if stage in STAGE_READS]:
        same = all(value_at(before, key) == value_at(new, key) for key in STAGE_READS[stage])
        facts = old.run.get("stages", {}).get(stage, {})
        if not same or facts.get("status") != "done":
            break
        found[stage] = facts
    return found


def adopt_steps(source: Path, config: RecipeConfig, run: RunWriter, step: int) -> None:
    """Copy the checkpoint of `source` after `step` iterations of stage 4, and its record until there.

    A checkpoint carries the coefficient that the KL controller had reached; where the configuration asks for another
    one than the old configuration did, it begins anew from that.

    Raises:
        RunLogError: no such checkpoint.
    """
    run_before, old = read_run(source), source / "stages" / "ppo"
    checkpoint = old / "checkpoints" / f"step-{step:08d}"
    if not (checkpoint / "state.json").is_file():
        raise RunLogError(
            f"{source} keeps no checkpoint of step {step} of stage 4. Fork at one of the kept steps, or at 0."
        )
    target = run.path / "stages" / "ppo"
    with whole_or_nothing(target / "checkpoints" / ".partial-fork", target):
        (target / "rollouts").mkdir(parents=True, exist_ok=True)
        for name in ("metrics.jsonl", "events.jsonl"):
            lines = (old / name).read_bytes().splitlines() if (old / name).is_file() else []
            rows = [(line, parse_object(line)) for line in lines]
            kept = [line + b"\n" for line, row in rows if row is not None and row.get("step", 0) <= step]
            (target / name).write_bytes(b"".join(kept))
        for number, path in run_before.stages["ppo"].rollout_files.items():
            if number <= step:
                shutil.copy2(path, target / "rollouts" / path.name)
        partial = target / "checkpoints" / ".partial-fork"
        shutil.copytree(checkpoint, partial, dirs_exist_ok=True)
        state = json.loads((partial / "state.json").read_text(encoding="utf-8"))
        if value_at(run_before.config, "ppo.kl_coef") != config.ppo.kl_coef:
            state["kl_coef"] = config.ppo.kl_coef
        (partial / "state.json").write_text(json.dumps(state), encoding="utf-8")
        replace_directory(partial, target / "checkpoints" / checkpoint.name)


def _run_stages(context: Context, only: str | None) -> dict[str, Any]:
    config, run, world = context.config, context.run, context.world
    statuses = _statuses(run.path)
    fetched = Meter()
    corpus = Corpus(config)
    for name in {config.data.reviews, config.data.comparisons} & {"imdb-reviews", "movie-ratings"}:
        if world.rank == 0:
            fetch(name)
    world.barrier()
    if not statuses:
        run.set_stage("fetch", "done", seconds=fetched.seconds(), peak_memory_gb=fetched.peak_gb())
    done = {name for name, status in statuses.items() if status == "done"}
    for stage in [only] if only else config.stages:
        if stage not in config.stages:
            raise ConfigError(f"This recipe has no stage {stage!r}. Its stages: {', '.join(config.stages)}.")
        if stage in done:
            continue
        check_order(done | ({"pretrain"} - set(config.stages)), stage)
        give_back_memory()
        meter = Meter()
        before = _seconds(run.path, stage)
        run.set_stage(stage, "running", seconds=before)
        _run_stage(context, corpus, stage)
        world.barrier()
        run.set_stage(stage, "done", seconds=before + meter.seconds(), peak_memory_gb=meter.peak_gb())
        done.add(stage)
    if done.issuperset(config.stages):
        return summarise(context)
    return {"done": sorted(done)}


def _run_stage(context: Context, corpus: Corpus, stage: str) -> None:
    if stage == "pretrain":
        run_pretrain(context, corpus)
    elif stage == "sft":
        run_sft(context, corpus)
    elif stage == "rm":
        run_reward_model(context, corpus)
        context.world.barrier()
        calibrate_scores(context, lambda tokenizer: corpus.prompts(tokenizer, held_out=False))
    elif stage == "ppo":
        parts, reference, reward_model = assemble(context, corpus)
        before = artifact_hashes(parts.policy, reference, reward_model)
        frozen = {"reference": reference, "reward_model": Hashed(reward_model)}
        run_ppo(context, parts, frozen)
        hashes = artifact_hashes(parts.policy, reference, reward_model)
        write_lineage(context, before, hashes, _data_hashes(context.config))
    else:
        parts, reference, _ = assemble(context, corpus)
        _load_trained_policy(context, parts.policy)
        prompts = corpus.prompts(parts.policy.tokenizer, held_out=True)[: context.config.eval.num_prompts]
        quality = run_eval(context, parts, reference, prompts)
        context.run.write_json("stages/eval/quality.json", quality)


def assemble(context: Context, corpus: Corpus) -> tuple[Parts, FrozenReference, RewardModel]:
    """The parts of stage 4 from the artifacts of the stages before."""
    config = context.config
    policy, reference = load_policy(
        context.final("sft"),
        config.model,
        value_model=config.ppo.value_model,
        temperature=config.ppo.temperature,
        seed=derive(config.ppo_seed, "ppo", "lora"),
        lora_layers=config.ppo.lora_layers,
    )
    reward_model = RewardModel.load(context.final("rm"), getattr(torch, config.model.dtype))
    frozen = InFile([reward_model] if reference.adapters_off else [reward_model, reference.model], context.run.path)
    tokenizer = policy.tokenizer
    pool = corpus.prompts(tokenizer, held_out=False)
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
        source=ReviewPrompts(pool, config.ppo.batch_size, config.ppo_seed, config.ppo.group_size),
        kl_controller=make_kl_controller(config.ppo),
        judges=make_judges(config, corpus),
        make_room=frozen.leave,
    )
    give_back_memory()  # what the judges were fitted on
    return parts, reference, reward_model


def make_judges(config: RecipeConfig, corpus: Corpus) -> dict[str, Scorer]:
    judges: dict[str, Scorer] = {
        "gold": star_judge(tuple(corpus.reviews.judge[: config.eval.judge_reviews])),
        "vader": VaderJudge(),
    }
    unseen = [block for split in ("dev", "test") for block in corpus.rewards.blocks.get(split, [])]
    if unseen:
        texts = tuple(text for block in unseen for text in block.texts)
        judges["raters"] = rater_judge(texts, tuple(mean for block in unseen for mean in kept_means(block)))
    return judges


def calibrate_scores(context: Context, pool: Callable[[Any], Sequence[Prompt]]) -> None:
    """Centre scores on SFT samples and record their deviation there: only then does a score have a zero and a unit.

    Args:
        pool: tokenizer ↦ prompts of stage 4, of which the last are used.
    """
    if context.world.rank == 0:
        config = context.config
        policy, reference = load_policy(
            context.final("sft"), config.model, value_model="shared", temperature=config.ppo.temperature, seed=0
        )
        tokenizer = policy.tokenizer
        reward_model = RewardModel.load(context.final("rm"), getattr(torch, config.model.dtype))
        prompts = pool(tokenizer)[-CALIBRATION_PROMPTS:]
        noise = uniforms(len(prompts), config.ppo.max_response_tokens, config.seed, "calibrate")
        scores: list[float] = []
        with reference.active() as model:
            generator = PolicyGenerator(
                model,
                pad_id=tokenizer.pad_token_id,
                eos_id=tokenizer.eos_token_id,
                temperature=config.ppo.temperature,
            )
            for rows in micro_batches(list(range(len(prompts))), config.ppo.batch_size):
                responses = generator.generate([prompts[r].tokens for r in rows], noise[rows]).responses
                texts = [tokenizer.decode(response, skip_special_tokens=True) for response in responses]
                scores += reward_model.score([prompts[r].text for r in rows], texts)
        facts = context.final("rm") / "reward_model.json"
        saved = json.loads(facts.read_text(encoding="utf-8"))
        # `score` has already taken off the old centre, so a second calibration after a kill ends at the same place.
        saved |= {"center": reward_model.center + float(np.mean(scores)), "deviation": float(np.std(scores))}
        context.run.write_json(facts.relative_to(context.run.path), saved)
    context.world.barrier()


def _load_trained_policy(context: Context, policy: PolicyAndValue) -> None:
    final = context.final("ppo")
    if hasattr(policy.model, "peft_config"):
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        set_peft_model_state_dict(policy.model, load_file(final / "adapter_model.safetensors"))
        return
    from safetensors.torch import load_file

    weights = load_file(final / "model.safetensors")
    missing = policy.model.load_state_dict(weights, strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}, missing  # tied to the embedding


class _HasHash(Protocol):
    def sha256(self) -> str: ...


def artifact_hashes(policy: PolicyAndValue, reference: _HasHash, reward_model: RewardModel) -> dict[str, str]:
    """SHA-256 of the four models of stage 4."""
    value = [policy.value_head] if policy.value_body is None else [policy.value_body, policy.value_head]
    return {
        "policy": weights_sha256(policy.model),
        "reference": reference.sha256(),
        "reward_model": weights_sha256(reward_model),
        "value": weights_sha256(*value),
    }


def _data_hashes(config: RecipeConfig) -> dict[str, str]:
    hashes: dict[str, str] = {}
    for name in (config.data.reviews, config.data.comparisons):
        path = Path(name) if Path(name).is_file() else fetch(name)
        for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
            hashes[f"{name}/{file.name}"] = file_sha256(file)
    return hashes


def write_lineage(context: Context, before: dict[str, str], after: dict[str, str], data: dict[str, str]) -> None:
    """Before and after stage 4. `before` is of the models as assembled, ahead of any checkpoint, so a resumed run finds
    the same; `data` is of what the stages were trained on."""
    if context.world.rank:
        return
    places = {"policy": "ppo", "reference": "sft", "reward_model": "rm", "value": "ppo"}
    inputs: dict[str, str] = {}
    for stage in ("pretrain", "sft", "rm"):
        final = context.final(stage)
        for path in sorted(final.glob("*")) if final.is_dir() else []:
            inputs[str(path.relative_to(context.run.path))] = file_sha256(path)
    inputs |= data
    context.run.write_json(
        "lineage.json",
        {
            "artifacts": {
                name: {"path": f"stages/{place}/final", "sha256_before": before[name], "sha256_after": after[name]}
                for name, place in places.items()
            },
            "inputs": inputs,
        },
    )


def _statuses(path: Path) -> dict[str, str]:
    run = json.loads((path / "run.json").read_text(encoding="utf-8"))
    return {name: stage["status"] for name, stage in run.get("stages", {}).items()}


def _seconds(path: Path, stage: str) -> float:
    run = json.loads((path / "run.json").read_text(encoding="utf-8"))
    return float(run.get("stages", {}).get(stage, {}).get("seconds") or 0.0)


def summarise(context: Context) -> dict[str, Any]:
    """Write summary.json from what the stages left on disk."""
    root = context.run.path
    run = json.loads((root / "run.json").read_text(encoding="utf-8"))
    quality = json.loads((root / "stages/eval/quality.json").read_text(encoding="utf-8"))
    evaluation = json.loads((root / "stages/rm/evaluation.json").read_text(encoding="utf-8"))
    keys = ("accuracy", "ci95", "human_ceiling", "kept_rater_accuracy", "ece", "score_length_spearman")
    summary = {
        "recipe": context.config.recipe,
        "seed": context.config.seed,
        **quality,
        "reward_model": {key: evaluation[key] for key in keys if key in evaluation},
        "seconds": {name: stage.get("seconds") for name, stage in run["stages"].items()},
        "peak_memory_gb": {name: stage.get("peak_memory_gb") for name, stage in run["stages"].items()},
        "verdict": verdict(quality),
    }
    context.run.write_json("summary.json", summary)
    return summary
