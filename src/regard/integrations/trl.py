"""Recording TRL's trainers: SFT, reward model, DPO, GRPO, RLOO, and PPO up to 1.12.0.

    from regard.integrations.trl import RegardCallback
    trainer.add_callback(RegardCallback("runs/mine", trainer))
    trainer.train()

Read from TRL 1.12.0 and 1.16.0. GRPO and RLOO keep the generations of the latest step in `_logs`, their table of
completions; the other trainers show none. PPO counts its steps from 0 even where it goes on from a checkpoint.
"""

import functools
import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from regard.errors import RunLogError
from regard.integrations.recorder import TRAINER, Recorder, text_of

SOURCES = {
    "GRPOConfig": "trl-grpo",
    "RLOOConfig": "trl-rloo",
    "DPOConfig": "trl-dpo",
    "RewardConfig": "trl-reward",
    "SFTConfig": "trl-sft",
    "PPOConfig": "trl-ppo",
}
"""The trainers whose keys are known, by the class of their settings or a base of it."""


class RegardCallback(TrainerCallback):
    """Writes our run record of a training by a Hugging Face Trainer; `regard review OUT` reads it.

    Args:
        out: directory of the run; created where missing.
        trainer: the trainer, for its rollouts (GRPO, RLOO). Without it metrics and events are recorded.
        source, stage, mapping: as of `Recorder`; found out by the class of the settings where they are not given.
        resume: go on in the run that is in `out`. None: where the trainer itself goes on from a checkpoint.
        rollouts_every: record the rollouts of every so many generations; 0: none.
    Raises:
        ConfigError, RunLogError: when training begins, as of `Recorder`. Afterwards nothing here ends the training.
    """

    def __init__(
        self,
        out: Path | str,
        trainer: Any = None,
        *,
        source: str | None = None,
        stage: str | None = None,
        mapping: dict[str, str] | None = None,
        resume: bool | None = None,
        rollouts_every: int = 1,
    ) -> None:
        self.out = Path(out)
        self.recorder: Recorder | None = None
        self._options = {"source": source, "stage": stage, "mapping": mapping}
        self._resume = resume
        self._every = rollouts_every
        shows = isinstance(getattr(trainer, "_logs", None), dict)
        self._trainer: Any = trainer if shows and rollouts_every > 0 else None
        self._seen: tuple[Any, ...] = ()
        self._tokens: list[list[int]] = []
        self._generations = 0
        self._training = False
        if self._trainer is not None:
            self._watch_tokens()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        begun = int(state.global_step)
        again = self.recorder is not None  # train() a second time in one process
        self._close()
        self.recorder = self._open(args, state, again or (begun > 0 if self._resume is None else self._resume))
        self._training = True
        self.recorder.log_event("train_begin", step=begun, trainer_steps=state.max_steps)
        if self._trainer is None and self.recorder.stage in ("grpo", "rloo") and self._every:
            self.recorder.log_event(
                "warning", step=begun, message="Rollouts are not recorded: RegardCallback was not given the trainer."
            )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if self.recorder is None or not logs:
            return
        if self._training:
            self.recorder.log_step(state.global_step, logs)
            return
        try:  # evaluate() after train()
            with self._open(args, state, resume=True) as recorder:
                recorder.log_step(state.global_step, logs)
        except RunLogError as error:
            warnings.warn(f"The evaluation after the training is not recorded. {error}", RuntimeWarning, stacklevel=2)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.recorder is None or self._trainer is None:
            return
        seen = self._snapshot()
        if seen == self._seen:  # another update on the same rollouts
            return
        self._seen = seen
        self._generations += 1
        if self.recorder.active and (self._generations - 1) % self._every == 0:
            weights = getattr(self._trainer, "reward_weights", None)
            rows = rollout_rows(
                self._trainer._logs,
                weights=[1.0] * len(self._trainer._logs["rewards"]) if weights is None else weights.tolist(),
                tokens=self._tokens,
                ends=self._ends(),
            )
            self.recorder.log_rollouts(state.global_step, rows)

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self._trainer is not None:
            self._seen = self._snapshot()  # generations of the evaluation are not rollouts

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.recorder is not None:
            path = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self.recorder.log_event("checkpoint", step=state.global_step, path=str(path))

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.recorder is not None:
            self.recorder.log_event("train_end", step=state.global_step)
        self._close()
        self._training = False

    def _open(self, args: Any, state: Any, resume: bool) -> Recorder:
        names = [kind.__name__ for kind in type(args).__mro__]
        source = self._options["source"] or next((SOURCES[name] for name in names if name in SOURCES), None)
        stage = self._options["stage"]
        if source is None:
            source = TRAINER.name
            stage = stage or names[0].removesuffix("Config").removesuffix("Arguments").lower()
        return Recorder(
            self.out,
            stage=stage,
            source=source,
            config=args.to_dict(),
            seed=args.seed,
            mapping=self._options["mapping"],
            resume=resume,
            rank=0 if state.is_world_process_zero else 1,
        )

    def _close(self) -> None:
        if self.recorder is not None:
            self.recorder.close()

    def _snapshot(self) -> tuple[Any, ...]:
        logs = self._trainer._logs
        return list(logs["prompt"]), list(logs["completion"]), list(logs["advantages"])

    def _ends(self) -> set[int]:
        """Tokens that end a response by itself, as TRL takes them to tell a cut one."""
        tokenizer = getattr(self._trainer.processing_class, "tokenizer", self._trainer.processing_class)
        ends = getattr(self._trainer, "eos_token_ids", None) or [tokenizer.eos_token_id]
        return {*ends, tokenizer.pad_token_id} - {None}

    def _watch_tokens(self) -> None:
        """Keep the token ids that a reward function gets. Reward models get none, and async functions run elsewhere."""
        functions = list(getattr(self._trainer, "reward_funcs", []))
        for index, function in enumerate(functions):
            is_async = any(map(inspect.iscoroutinefunction, (function, type(function).__call__)))
            if not is_async and not hasattr(function, "parameters"):
                functions[index] = self._watched(function)
                self._trainer.reward_funcs = functions
                return

    def _watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(*arguments: Any, **named: Any) -> Any:
            self._tokens = [list(ids) for ids in named.get("completion_ids") or []]
            return function(*arguments, **named)

        return watched


def rollout_rows(
    logs: dict[str, Any], weights: Sequence[float], tokens: Sequence[Sequence[int]], ends: set[int]
) -> list[dict[str, Any]]:
    """Rows for `Recorder.log_rollouts` of TRL's table of completions.

    Args:
        logs: `prompt`, `completion`, `advantages`, `rewards` by function and, if any, `extra` by column; one entry a
            response.
        weights: of the reward functions, in their order. The score is the weighted sum of those that are not NaN, as
            in TRL; NaN where all are.
        tokens: of the first responses of the table: those of this process. No more are known.
        ends: last tokens of a response that was not cut.
    """
    rows: list[dict[str, Any]] = []
    for index, response in enumerate(logs["completion"]):
        rewards = {name: values[index] for name, values in logs["rewards"].items()}
        parts = [w * r for w, r in zip(weights, rewards.values(), strict=True) if r is not None and not math.isnan(r)]
        row = {
            "prompt": text_of(logs["prompt"][index]),
            "response": text_of(response),
            "score": sum(parts) if parts else math.nan,
            "advantage": logs["advantages"][index],
            "rewards_by_function": rewards,
            **{name: values[index] for name, values in (logs.get("extra") or {}).items() if index < len(values)},
        }
        if index < len(tokens):
            finished = bool(tokens[index]) and tokens[index][-1] in ends
            row |= {"tokens": list(tokens[index]), "finished": finished, "truncated": not finished}
        rows.append(row)
    return rows
