"""What a recipe resolves to before anything runs."""

import pytest

from regard.config import parse_config
from regard.errors import ConfigError


@pytest.mark.parametrize(("flags", "expected"), [("avx2 fma", "float32"), ("avx512_bf16 avx2", "bfloat16")])
def test_auto_dtype_follows_the_processor_and_is_recorded_resolved(
    monkeypatch: pytest.MonkeyPatch, flags: str, expected: str
) -> None:
    monkeypatch.setattr("regard.runlog.environment.Path.read_text", lambda *_: f"flags : {flags}\n")
    config = parse_config({"model": {"source": "smollm2-135m", "dtype": "auto", "lora_rank": 4}}, "test")
    assert config.model_dump(mode="json")["model"]["dtype"] == expected


def test_adapters_on_some_blocks_need_adapters() -> None:
    with pytest.raises(ConfigError, match=r"ppo.lora_layers needs model.lora_rank"):
        parse_config({"ppo": {"lora_layers": 1}}, "test")


def test_reviews_too_few_for_a_prompt_of_stage_4_are_refused() -> None:
    with pytest.raises(ConfigError, match="leaves stage 4 no prompt"):
        parse_config({"data": {"max_reviews": 256}}, "test")
    assert parse_config({"data": {"max_reviews": 257}}, "test").data.max_reviews == 257


@pytest.mark.parametrize(
    ("ppo", "says"),
    [
        ({"algorithm": "grpo"}, "set group_size, to 8 say"),
        ({"algorithm": "rloo", "group_size": 1}, "compares responses to one prompt"),
        ({"algorithm": "grpo", "group_size": 5}, "batch_size=64 is no multiple of group_size=5"),
        ({"algorithm": "grpo", "group_size": 8, "value_model": "separate"}, "leave value_model at shared"),
        ({"algorithm": "rloo", "group_size": 8, "whiten_advantages": True}, "set whiten_advantages to false"),
        ({"algorithm": "grpo", "group_size": 8, "gamma": 0.9}, "leave gamma at 1"),
    ],
)
def test_groups_that_cannot_be_compared_are_refused(ppo: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_config({"ppo": ppo}, "test")


def test_a_record_says_that_advantages_of_groups_are_not_whitened() -> None:
    plain = parse_config({"ppo": {"algorithm": "grpo", "group_size": 8}}, "test").model_dump(mode="json")
    assert plain["ppo"]["whiten_advantages"] is False
    assert parse_config(plain, "test").model_dump(mode="json") == plain
