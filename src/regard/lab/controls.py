"""Runs without a fault that a reviewer could mistake for ill. Only oddities of measurement rewrite the record."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from regard.errors import ConfigError
from regard.lab.faults.measurement import noisy_judges
from regard.lab.setup import Setup, Wrapped
from regard.train.stage import StepStats

Kind = Literal["healthy", "benign change", "odd but healthy", "measurement oddity"]


@dataclass(frozen=True)
class Control:
    name: str
    kind: Kind
    apply: Callable[[Setup], None]

    @property
    def summary(self) -> str:
        return " ".join((self.apply.__doc__ or "").strip().split("\n\n")[0].split())


CONTROLS: dict[str, Control] = {}


def control(name: str, kind: Kind) -> Callable[[Callable[[Setup], None]], Callable[[Setup], None]]:
    def register(apply: Callable[[Setup], None]) -> Callable[[Setup], None]:
        assert name not in CONTROLS, name
        CONTROLS[name] = Control(name, kind, apply)
        return apply

    return register


def apply_control(name: str, setup: Setup) -> None:
    """Raises ConfigError where there is none of that name."""
    if name not in CONTROLS:
        raise ConfigError(f"No control {name!r} in the lab. Type regard lab list.")
    CONTROLS[name].apply(setup)


@control("healthy", "healthy")
def healthy(setup: Setup) -> None:
    """Nothing is changed."""


# Benign changes: what a user may well prefer


def _configured(name: str, summary: str, **changes: Any) -> None:
    """A control that sets keys of `ppo`; a function is called with the value that the key had."""

    def apply(setup: Setup) -> None:
        for key, value in changes.items():
            setup.set(f"ppo.{key}", value(setup.get(f"ppo.{key}")) if callable(value) else value)

    apply.__doc__ = summary
    control(name, "benign change")(apply)


_configured("smaller-batch", "Three quarters of the rollouts.", batch_size=lambda n: n * 3 // 4)
_configured("larger-batch", "Half as many rollouts again.", batch_size=lambda n: n * 3 // 2)
_configured("lower-learning-rate", "Learning rate times 0.7.", learning_rate=lambda rate: 0.7 * rate)
_configured("higher-learning-rate", "Learning rate times 1.4.", learning_rate=lambda rate: 1.4 * rate)
_configured("longer-cap", "Four more tokens before a response is cut.", max_response_tokens=lambda cap: cap + 4)
_configured("adaptive-kl", "β steered to 3 nats per sequence.", kl_target=3.0, kl_horizon=1000)
_configured("three-epochs", "Three passes over each batch.", epochs=3)
_configured("one-epoch", "One pass over each batch.", epochs=1)
_configured("separate-value-model", "The value has a body of its own.", value_model="separate")
_configured("reward-to-go", "λ = 1.", gae_lambda=1.0)
_configured("shorter-lambda", "λ = 0.9.", gae_lambda=0.9)
_configured("tighter-clip", "Clip range 0.1.", clip_range=0.1)
_configured("wider-clip", "Clip range 0.3.", clip_range=0.3)
_configured("lower-kl-coef", "β times 0.8.", kl_coef=lambda coef: 0.8 * coef)
_configured("higher-kl-coef", "β times 1.5.", kl_coef=lambda coef: 1.5 * coef)
_configured("entropy-bonus", "A small entropy bonus.", entropy_coef=0.003)
_configured("unclipped-value", "No clipping of the value loss.", value_clip_range=None)
_configured("a2c", "One epoch without ratio or clip.", algorithm="a2c", epochs=1)


# Odd but healthy


@control("score-offset", "odd but healthy")
def score_offset(setup: Setup) -> None:
    """Every score is 3 deviations lower; only differences of scores mean anything."""

    class Lower(Wrapped):
        def score(self, prompts: list[str], responses: list[str]) -> list[float]:
            return [score - 3 * self.inner.deviation for score in self.inner.score(prompts, responses)]

    setup.wrap(scorer=lambda inner: Lower(inner, setup))


@control("slow-learning", "odd but healthy")
def slow_learning(setup: Setup) -> None:
    """Learning rate times 0.4: half of the gain, none of the trouble."""
    setup.scale("ppo.learning_rate", 0.4)


@control("short-run", "odd but healthy")
def short_run(setup: Setup) -> None:
    """Twelve iterations."""
    setup.set("ppo.steps", 12)


@control("long-plateau", "odd but healthy")
def long_plateau(setup: Setup) -> None:
    """Half as many iterations again: most of the gain comes early, then nothing moves."""
    setup.set("ppo.steps", setup.get("ppo.steps") * 3 // 2)


@control("long-warmup", "odd but healthy")
def long_warmup(setup: Setup) -> None:
    """The learning rate rises over a third of the run, so nothing happens at first."""
    setup.set("ppo.warmup_steps", setup.get("ppo.steps") // 3)


@control("one-gradient-spike", "odd but healthy")
def one_gradient_spike(setup: Setup) -> None:
    """One iteration's gradients are 20 times as large, and clipped as they should be."""
    when = int(setup.get("ppo.steps") * (0.3 + 0.4 * setup.random("spike").random()))

    class Spiked(Wrapped):
        def step(self, schedule: float) -> StepStats:
            if self.setup.clock.step == when:
                for parameter in self.inner.parameters:
                    if parameter.grad is not None:
                        parameter.grad.mul_(20.0)
            return self.inner.step(schedule)

    setup.wrap(gradient_step=lambda make: lambda *a, **k: Spiked(make(*a, **k), setup))


@control("noisy-gold", "odd but healthy")
def noisy_gold(setup: Setup) -> None:
    """The independent judge is one person with a bad day: noise of 0.4 on every judgement."""
    noisy_judges(setup, 0.4)


# Oddities of measurement: training is healthy, the record is not complete

Line = dict[str, Any]


def _rewrite_metrics(run: Path, change: Callable[[list[Line]], list[Line]]) -> None:
    path = run / "stages/ppo/metrics.jsonl"
    lines = change([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _recorded(name: str, change: Callable[[Path], None]) -> None:
    """A control that changes the finished record."""

    def apply(setup: Setup) -> None:
        setup.on_record(change)

    apply.__doc__ = change.__doc__
    control(name, "measurement oddity")(apply)


def _without_keys(run: Path) -> None:
    """Judge, entropy and gradient norm were never logged."""

    def change(lines: list[Line]) -> list[Line]:
        gone = ("gold/", "entropy/", "optim/grad_norm")
        return [
            line | {"metrics": {k: v for k, v in line["metrics"].items() if not k.startswith(gone)}} for line in lines
        ]

    _rewrite_metrics(run, change)


def _nan_where_not_measured(run: Path) -> None:
    """What is measured only every fourth step is NaN in between."""

    def change(lines: list[Line]) -> list[Line]:
        for line in lines:
            if line["step"] % 4:
                for key in ("gold/judge/mean", "value/explained_variance/value", "gold/score_correlation/spearman"):
                    if key in line["metrics"]:
                        line["metrics"][key] = float("nan")
        return lines

    _rewrite_metrics(run, change)


def _every_fourth_step(run: Path) -> None:
    """Only every fourth step was logged."""
    _rewrite_metrics(run, lambda lines: [line for line in lines if line["step"] % 4 == 0])


def _restarted(run: Path) -> None:
    """Killed and resumed from a checkpoint five steps back: those steps stand twice, with the same numbers."""

    def change(lines: list[Line]) -> list[Line]:
        half = len(lines) // 2
        later = [line | {"time": line["time"] + 100} for line in lines[half - 5 :]]
        return lines[:half] + later

    _rewrite_metrics(run, change)
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    facts["sessions"].append(facts["sessions"][0])
    (run / "run.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _foreign_keys(run: Path) -> None:
    """Keys of another program stand beside ours, one of them an entropy that sums a 1 for every pad."""

    def change(lines: list[Line]) -> list[Line]:
        for line in lines:
            metrics = line["metrics"]
            if "entropy/policy/token_mean" in metrics:
                pads = metrics["length/cap/value"] - metrics["length/response_tokens/mean"]
                sentinel = metrics.pop("entropy/policy/token_mean") + pads
                line["metrics"] = metrics | {"objective/entropy": sentinel, "val/ratio": 1.0, "lr": 1e9}
        return lines

    _rewrite_metrics(run, change)


def _torn_tail(run: Path) -> None:
    """The last line of the metrics was cut by a full disk."""
    path = run / "stages/ppo/metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-200])


def _no_rollouts(run: Path) -> None:
    """Rollouts were not kept."""
    shutil.rmtree(run / "stages/ppo/rollouts")


def _no_early_stages(run: Path) -> None:
    """SFT and reward model were made elsewhere: only stage 4 has a record."""
    for stage in ("pretrain", "sft", "rm"):
        shutil.rmtree(run / "stages" / stage)


_recorded("keys-missing", _without_keys)
_recorded("nan-where-not-measured", _nan_where_not_measured)
_recorded("every-fourth-step", _every_fourth_step)
_recorded("restart-with-overlap", _restarted)
_recorded("foreign-keys", _foreign_keys)
_recorded("torn-last-line", _torn_tail)
_recorded("no-rollouts", _no_rollouts)
_recorded("only-stage-4", _no_early_stages)
