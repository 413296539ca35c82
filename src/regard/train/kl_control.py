"""The coefficient of the KL penalty: fixed, or steered towards a target."""

from regard.config import PPOConfig
from regard.rollout.protocols import KLController


class FixedKL:
    def __init__(self, coef: float) -> None:
        self.coef = coef

    def update(self, kl_per_sequence: float, kl_per_token: float, num_rollouts: int) -> None:
        del kl_per_sequence, kl_per_token, num_rollouts


class AdaptiveKL:
    """β ← β·(1 + clip(KL/target − 1, −0.2, 0.2)·n/horizon), n rollouts seen (Ziegler et al. 2019, section 2.2).

    `unit` says which KL the target is of; nothing here guesses it.
    """

    def __init__(self, coef: float, target: float, unit: str, horizon: int) -> None:
        self.coef, self.target, self.unit, self.horizon = coef, target, unit, horizon

    def update(self, kl_per_sequence: float, kl_per_token: float, num_rollouts: int) -> None:
        kl = kl_per_sequence if self.unit == "nats/sequence" else kl_per_token
        error = min(0.2, max(-0.2, kl / self.target - 1))
        self.coef *= 1 + error * num_rollouts / self.horizon


def make_kl_controller(config: PPOConfig) -> KLController:
    if config.kl_target is None:
        return FixedKL(config.kl_coef)
    return AdaptiveKL(config.kl_coef, config.kl_target, config.kl_target_unit, config.kl_horizon)
