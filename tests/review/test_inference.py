"""The weights of the inference, against sums by hand."""

import numpy as np
import pytest

from regard.review import inference
from regard.review.causes import MUST, Cause, all_causes
from regard.review.diagnosis import rivals
from regard.review.inference import RIVAL, UPSTREAM, Posterior


def test_the_strongest_counts_whole_and_an_absent_one_half_unless_it_decides_or_must_be_there() -> None:
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
        return float(np.log(ill / healthy) - np.log(inference.ONE / inference.HEALTHY))

    holds, without = np.log(q / leak), np.log((1 - q) / (1 - leak))
    assert odds([1, 0, 0], [0, 1, 0]) == pytest.approx(holds + 0.6 * without / 2)
    assert odds([0, 1, 0], [1, 0, 0]) == pytest.approx(holds + without), "nothing that decides is there"
    assert odds([1, 0, 0], [0, 0, 1]) == pytest.approx(holds + np.log((1 - must) / (1 - leak)))
    assert odds([1, 1, 0], [0, 0, 0]) == pytest.approx(holds + 0.6 * holds), "the second follows from the same"


def entry(name: str, leads_to: tuple[str, ...] = (), **predicts: float) -> Cause:
    return Cause(
        id=name, name=name, title="", stage="KL", since="start", layman="", what="", why="", would_overturn="",
        references="", predicts=predicts, decided_by=tuple(predicts), look_alikes={}, changes=(), leads_to=leads_to,
    )  # fmt: skip


def test_the_sets_add_up_and_tell_what_stands_in_the_place_of_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two causes that never stand together, of a symptom that both bring: half of it each; one more symptom, and the
    other is in its place as often as it is a root at all. Two that may stand together are not in each other's place
    where both are seen."""
    monkeypatch.setattr(inference, "counted", dict)
    apart = {"X": entry("X", ("Y",), a=0.8), "Y": entry("Y", a=0.8)}
    posterior = inference.infer({"a": True}, apart)
    assert sum(posterior.sets.values()) == pytest.approx(1.0)
    assert posterior.instead("X", "Y") == pytest.approx(posterior.causes["Y"]) == pytest.approx(posterior.causes["X"])
    beside = {"X": entry("X", a=0.8), "Y": entry("Y", b=0.8)}
    posterior = inference.infer({"a": True, "b": True}, beside)
    assert posterior.best == {"X", "Y"}
    assert posterior.instead("X", "Y") < 0.5 * posterior.causes["Y"]


def standing(**sets: float) -> Posterior:
    """One cause each."""
    return Posterior(0.0, dict(sets), frozenset([max(sets, key=lambda one: sets[one])]),
                     {frozenset([one]): p for one, p in sets.items()}, {})  # fmt: skip


@pytest.mark.parametrize(
    ("upstream", "other", "rival"),
    [
        (2 * UPSTREAM, RIVAL / 2, ["N3"]),
        (UPSTREAM / 2, RIVAL / 2, []),
        (UPSTREAM / 2, 2 * RIVAL, ["P2"]),
    ],
)
def test_what_a_cause_may_follow_from_is_a_rival_long_before_any_other(
    upstream: float, other: float, rival: list[str]
) -> None:
    """A resume without its reference (N3) makes the reference move (K8); a small step (P2) does not."""
    assert "K8" in all_causes()["N3"].leads_to and "K8" not in all_causes()["P2"].leads_to
    posterior = standing(K8=1 - upstream - other, N3=upstream, P2=other)
    assert [one.id for one in rivals(all_causes()["K8"], posterior)] == rival
