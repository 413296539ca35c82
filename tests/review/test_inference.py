"""The weights of the inference, against sums by hand."""

import numpy as np
import pytest

from regard.review import inference
from regard.review.causes import MUST, Cause


def test_an_absent_symptom_weighs_half_unless_it_decides_or_the_cause_cannot_be_without_it() -> None:
    """By hand: log odds of the only cause against none, less those of the prior."""
    one = Cause(
        id="X", name="x", title="", stage="KL", since="start", layman="", what="", why="", would_overturn="",
        references="",
        predicts={"a": 0.8, "b": 0.8, "c": MUST}, decided_by=("a",), look_alikes={}, changes=(), leads_to=(),
    )  # fmt: skip
    hypotheses = inference.Hypotheses(["a", "b", "c"], {"X": one}, counts={}, strength=1.0)
    leak, q, must = inference.LEAK, 0.8, 1 - inference.FLOOR

    def odds(yes: list[int], no: list[int]) -> float:
        healthy, ill = hypotheses.weigh(np.array([yes], float), np.array([no], float), 0.6, 0.5)[0]
        return float(np.log(ill / healthy) - np.log(inference.ONE / inference.HEALTHY)) / 0.6

    without = np.log((1 - q) / (1 - leak))
    assert odds([1, 0, 0], [0, 1, 0]) == pytest.approx(np.log(q / leak) + without / 2)
    assert odds([0, 1, 0], [1, 0, 0]) == pytest.approx(np.log(q / leak) + without), "nothing that decides is there"
    assert odds([1, 0, 0], [0, 0, 1]) == pytest.approx(np.log(q / leak) + np.log((1 - must) / (1 - leak)))
