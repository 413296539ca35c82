"""What a review can look at, read once and kept: the stages by role, the rollouts, the configuration."""

from functools import cached_property
from typing import Any

from regard.review.answers import sample_of
from regard.review.registry import POLICY_STAGES
from regard.runlog.importers.vocabulary import setting
from regard.runlog.reader import RunLog, StageLog
from regard.runlog.sample import RolloutSample


class Facts:
    """A run as the signs of causes see it.

    Attributes:
        run: the whole record.
    """

    def __init__(self, run: RunLog) -> None:
        self.run = run

    @cached_property
    def policy(self) -> StageLog | None:
        """The stage that trains a policy on its own samples."""
        return next((stage for name, stage in self.run.stages.items() if name in POLICY_STAGES), None)

    @property
    def sft(self) -> StageLog | None:
        return self.run.stages.get("sft")

    @property
    def rm(self) -> StageLog | None:
        return self.run.stages.get("rm")

    @property
    def dpo(self) -> StageLog | None:
        return self.run.stages.get("dpo")

    @cached_property
    def rollouts(self) -> RolloutSample | None:
        """The rollouts of the policy's stage; None where there are none."""
        if self.policy is None:
            return None
        sample = sample_of(self.policy)
        return sample if len(sample) else None

    def setting(self, *names: str) -> Any:
        """The value of the first of these settings that the configuration has: by its dotted name, or by its last part
        where only one place has it. None where there is none; a setting of null is not there."""
        return next((value for name in names if (value := setting(self.run.config, name)) is not None), None)

    def number(self, *names: str) -> float | None:
        """As `setting`, None also where the value is no number."""
        value = self.setting(*names)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
