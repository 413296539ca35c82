"""The metric registry and the page generated from it."""

import re
from pathlib import Path

import pytest

from regard.runlog.docs import metrics_markdown
from regard.runlog.metrics import MAX_EPOCHS, METRICS

# Short names of the review rules. A rule that needs one of them must find a metric that realises it.
CANONICAL = """
score score_std total_reward gold kl_ref kl_ref_tok kl_coef approx_kl ratio clipfrac clipfrac_hi clipfrac_lo vf_loss EV
entropy len_mean cap eos_frac trunc_frac group_zero_std mismatch_kl staleness grad_norm rm_acc_val adv_mean
"""

AREAS = """
loss rm preference score gold kl ratio clip value advantage entropy length finish group text optim policy data time
throughput memory eval invariant behaviour live
"""


def test_every_canonical_quantity_is_realised_by_exactly_one_metric() -> None:
    realised = sorted(spec.canonical for spec in METRICS.values() if spec.canonical is not None)
    assert realised == sorted(CANONICAL.split())


@pytest.mark.parametrize(
    ("name", "key", "unit"),
    [
        ("kl_ref", "kl/policy_ref_k1/seq_sum", "nats/sequence"),
        ("kl_ref_tok", "kl/policy_ref_k1/token_mean", "nats/token"),
        ("approx_kl", "kl/old_new_k2/mean", "nats/token"),
        ("mismatch_kl", "kl/generator_trainer_k3/mean", "nats/token"),
    ],
)
def test_the_four_quantities_called_kl_are_four_metrics(name: str, key: str, unit: str) -> None:
    assert METRICS[key].canonical == name
    assert METRICS[key].unit == unit


def test_keys_have_the_declared_form_and_areas() -> None:
    for key, spec in METRICS.items():
        assert re.fullmatch(r"[a-z]+(/[a-z0-9_]+){1,2}", key), key
        assert spec.area in AREAS.split(), key
        assert len(key.split("/")) == 3 or spec.area in {"time", "throughput"}, key
    assert {spec.area for spec in METRICS.values()} == set(AREAS.split())


def test_no_declaration_has_an_empty_part() -> None:
    for key, spec in METRICS.items():
        for part in (spec.quantity, spec.estimator, spec.reduction, spec.mask, spec.unit, spec.description):
            assert part.strip() == part != "", key
        assert spec.direction in {"higher", "lower", "neither"}, key


def test_every_comparison_of_two_policies_names_both() -> None:
    pairs = {
        "policy_ref": ("policy", "reference"),
        "old_new": ("old", "new"),
        "generator_trainer": ("generator", "trainer"),
    }
    for key, spec in METRICS.items():
        for part, pair in pairs.items():
            if f"/{part}" in key:
                assert spec.policies == pair, key
        if spec.quantity.startswith("KL("):
            assert spec.policies == ("policy", "reference"), key


def test_the_estimator_in_the_key_is_the_estimator_that_is_declared() -> None:
    formulas = {
        "k1": r"logprob(_\w+)? - (ref_logprob|logprob_\w+)$",
        "k2": r"0\.5\*\(.+\)\^2$",
        "k3": r"exp\(d\) - 1 - d",
    }
    for key, spec in METRICS.items():
        found = re.search(r"_(k[123])(/|$)", key)
        if found:
            assert re.search(formulas[found[1]], spec.estimator), key


@pytest.mark.parametrize("prefix", ["kl/old_new_k2", "ratio/old_new", "clip/policy"])
def test_epoch_families_are_declared_key_by_key(prefix: str) -> None:
    epochs = [key for key in METRICS if key.startswith(f"{prefix}/epoch_")]
    assert epochs == [f"{prefix}/epoch_{number}" for number in range(1, MAX_EPOCHS + 1)]


def test_the_page_names_every_metric_once() -> None:
    headings = re.findall(r"^### `(.+)`$", metrics_markdown(), flags=re.MULTILINE)
    assert headings == list(METRICS)


def test_the_page_in_the_repository_is_current() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
    assert page.read_text(encoding="utf-8") == metrics_markdown(), (
        "run: python -m regard.runlog.docs > docs/reference/metrics.md"
    )
