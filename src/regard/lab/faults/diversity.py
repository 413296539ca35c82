"""Entropy and variety."""

from typing import Any

from regard.lab.faults import fault
from regard.lab.setup import Setup


def entropy_bonus(setup: Setup, weight: float) -> None:
    """A bonus of `weight` a nat of entropy, beside the small one of the configuration that makes it differentiable."""
    setup.set("ppo.entropy_coef", 0.001)

    def wrap(inner: Any) -> Any:
        def loss(config: Any, out: Any, minibatch: Any, num_loss_tokens: float) -> Any:
            result = inner(config, out, minibatch, num_loss_tokens)
            if not setup.active:
                return result
            entropy = (out.entropy * minibatch.batch.response_mask).sum() / num_loss_tokens
            return result._replace(loss=result.loss - weight * entropy)

        return loss

    setup.wrap(policy_loss=wrap)


@fault("E1", stage="policy optimisation", starts=("start", "mid"))
def entropy_bonus_has_the_wrong_sign(setup: Setup) -> None:
    """Entropy is punished with 0.15, 0.25 or 0.4 a nat."""
    entropy_bonus(setup, -setup.choose(0.15, 0.25, 0.4))


@fault("E2", stage="policy optimisation", starts=("start", "mid"))
def entropy_bonus_too_large(setup: Setup) -> None:
    """An entropy bonus of 0.3, 0.6 or 1.2 a nat; from the start it stands in the configuration."""
    weight = setup.choose(0.3, 0.6, 1.2)
    if setup.start == "start":
        setup.set("ppo.entropy_coef", weight)
    else:
        entropy_bonus(setup, weight)
