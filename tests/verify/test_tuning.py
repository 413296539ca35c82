"""`regard tune` on a micro run trained for real."""

import json
from pathlib import Path
from typing import Any

import pytest
from support import read_json, regard

from regard.config import changed_config, load_recipe
from regard.errors import ConfigError
from regard.verify.tuning import parse_bounds, search_space

SUMMARY: dict[str, Any] = {
    "kl": {"per_sequence": 5.0},
    "length": {"sft": 10.0, "policy": 13.0},
    "perplexity": {"sft": 40.0, "policy": 20.0},
    "distinct_2": {"sft": 0.9, "policy": 0.45},
}


@pytest.mark.parametrize(
    ("text", "excess"),
    [
        ("kl<=6", -1 / 6),
        ("kl<=4", 1 / 4),
        ("length<=1.2x", 0.1 / 1.2),
        ("length>=14", 1 / 14),
        ("perplexity<=1.5x", -1 / 1.5),
        ("distinct>=0.5x", 0.0),
        ("distinct >= 0.6", 0.15 / 0.6),
    ],
)
def test_a_bound_says_by_how_much_it_is_broken(text: str, excess: float) -> None:
    (bound,) = parse_bounds(text)
    assert bound.excess(SUMMARY) == pytest.approx(excess)
    assert parse_bounds(str(bound)) == (bound,)


@pytest.mark.parametrize("text", ["kl<6", "kl<=", "fluency<=1", "kl<=2x", "length<=1.2x; kl<=3"])
def test_no_bound_is_one_sentence(text: str) -> None:
    with pytest.raises(ConfigError, match="--keep"):
        parse_bounds(text)


def test_the_present_setting_lies_inside_the_space() -> None:
    for recipe in ("tiny", "movie-sentiment"):
        config = load_recipe(recipe)
        plain = config.model_dump(mode="json")["ppo"]
        for key, distribution in search_space(config).items():
            assert distribution._contains(plain[key.removeprefix("ppo.")]), key


def test_a_run_without_a_leash_can_be_tuned() -> None:
    from regard.verify.tuning import Tried, _study

    config = changed_config(load_recipe("tiny"), {"ppo.kl_coef": 0.0})
    space = search_space(config)
    present = Tried(0, {"ppo.kl_coef": 0.0}, Path(), "done", SUMMARY)
    study = _study(config, space, [present], "gold", ())
    assert study.trials == [] and study.ask(space).params["ppo.kl_coef"] >= 0.003


def test_trials_stay_in_bounds_are_confirmed_and_never_repeated(micro: Path, tmp_path: Path) -> None:
    out = tmp_path / "tune"
    words = ("tune", str(micro), "--out", str(out), "--json", "--keep", "perplexity<=9x")
    first = regard(*words, "--trials", "1", "--seeds", "1")
    assert first.returncode in (0, 1), first.stderr
    result = json.loads(first.stdout)
    assert result["trials"][0]["goal"] == read_json(micro / "summary.json")["gold"]["policy"]
    assert [one["state"] for one in result["trials"]] == ["done", "done"]
    stamp = (out / "trial-001/summary.json").stat().st_mtime_ns

    rows = read_json(out / "trials.json")
    (out / "trial-001/summary.json").unlink()  # as a kill in its evaluation leaves it
    (out / "trials.json").write_text(json.dumps([rows[0] | {"state": "running"}]))
    second = regard(*words, "--trials", "2", "--seeds", "2")
    assert second.returncode in (0, 1), second.stderr
    again = json.loads(second.stdout)
    assert again["trials"][:2] == result["trials"] and len(again["trials"]) == 3
    assert (out / "trial-001/summary.json").stat().st_mtime_ns != stamp

    best = max((one for one in again["trials"] if one["kept"]), key=lambda one: one["goal"])
    assert again["recommended"] == best["params"]
    if best["number"]:
        assert again["seeds"] == [1, 2] and again["ci95"][0] <= again["difference"] <= again["ci95"][1]
        assert set(again["costs"]) == {"kl", "perplexity", "distinct", "length"}
    assert (second.returncode == 0) == (again["outcome"] == "better")

    none = regard(*words[:-1], "length<=0.01x", "--trials", "2")
    assert none.returncode == 1 and json.loads(none.stdout)["outcome"] == "no setting keeps the bounds"


def test_what_cannot_be_tuned_is_one_sentence(micro: Path) -> None:
    for words, says in ((("--goal", "score"), "never saw"), (("--keep", "kl<6"), "is no bound")):
        done = regard("tune", str(micro), *words)
        assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
