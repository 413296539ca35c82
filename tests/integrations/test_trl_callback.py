"""RegardCallback in real trainings: the Trainer of transformers here, TRL's where it is installed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Trainer, TrainingArguments

from regard.errors import RunLogError
from regard.integrations.trl import RegardCallback, rollout_rows
from regard.runlog.reader import StageLog, read_run


class Line(torch.nn.Module):
    """y = w x, to be trained in milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": ((self.weight * x - labels) ** 2).mean(), "logits": self.weight * x}


ROWS = [{"x": float(n), "labels": 2.0 * n} for n in range(1, 9)]


def trainer(directory: Path, steps: int, *callbacks: RegardCallback, **settings: Any) -> Trainer:
    args = TrainingArguments(
        output_dir=str(directory / "out"), max_steps=steps, logging_steps=1, save_steps=2, report_to=[], use_cpu=True,
        disable_tqdm=True, learning_rate=0.01, seed=5, **settings,
    )  # fmt: skip
    return Trainer(Line(), args, train_dataset=ROWS, eval_dataset=ROWS[:4], callbacks=list(callbacks))


def stage(directory: Path) -> StageLog:
    (log,) = read_run(directory).stages.values()
    return log


def kinds(log: StageLog) -> list[str]:
    return [event["kind"] for event in log.events]


def test_metrics_settings_and_checkpoints_are_recorded(tmp_path: Path) -> None:
    trainer(tmp_path, 5, RegardCallback(tmp_path / "run", stage="sft", mapping={"loss": "loss/sft/mean"})).train()
    run, log = read_run(tmp_path / "run"), stage(tmp_path / "run")
    assert run.run["seed"] == 5 and run.config["learning_rate"] == 0.01 and run.run["source"] == "transformers"
    assert run.run["stages"]["sft"]["status"] == "done"
    assert list(log.metrics["loss/sft/mean"].steps) == [1, 2, 3, 4, 5]
    assert log.metrics["loss/sft/mean"].values[-1] < log.metrics["loss/sft/mean"].values[0]
    assert [event["step"] for event in log.events if event["kind"] == "checkpoint"] == [2, 4, 5]
    assert kinds(log)[0] == "train_begin" and kinds(log)[-1] == "train_end"


def test_training_resumed_from_a_checkpoint_goes_on_in_the_record(tmp_path: Path) -> None:
    loss = {"loss": "loss/sft/mean"}
    trainer(tmp_path, 5, RegardCallback(tmp_path / "run", stage="sft", mapping=loss)).train()
    with pytest.raises(RunLogError, match="already holds a run"):
        trainer(tmp_path, 5, RegardCallback(tmp_path / "run", stage="sft")).train()
    again = trainer(tmp_path, 7, RegardCallback(tmp_path / "run", stage="sft", mapping=loss))
    again.train(resume_from_checkpoint=str(tmp_path / "out/checkpoint-2"))
    log = stage(tmp_path / "run")
    assert list(log.metrics["loss/sft/mean"].steps) == [1, 2, 3, 4, 5, 6, 7]
    assert any("3 step(s) from 3 to 5 were logged twice" in note for note in log.notes)
    changed = [change for event in log.events if event["kind"] == "config_change" for change in event["changes"]]
    assert {"key": "max_steps", "from": 5, "to": 7} in changed and kinds(log).count("resume") == 1


def test_evaluation_after_the_training_is_recorded_too(tmp_path: Path) -> None:
    mapping = {"eval_loss": "loss/sft_eval/mean"}
    one = trainer(tmp_path, 3, RegardCallback(tmp_path / "run", stage="sft", mapping=mapping))
    one.train()
    measured = one.evaluate()
    assert list(stage(tmp_path / "run").metrics["loss/sft_eval/mean"].values) == [measured["eval_loss"]]


def test_nothing_of_the_record_ends_the_training(tmp_path: Path) -> None:
    class Spoiler(RegardCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 2:  # from here on no file of the stage can be made
                (self.out / "stages/sft/rollouts").write_text("in the way")
                assert self.recorder is not None
                self.recorder.log_rollouts(2, [{"response": "r"}])
                self.recorder.flush()

    one = trainer(tmp_path, 5, Spoiler(tmp_path / "run", stage="sft", mapping={"loss": "loss/sft/mean"}))
    with pytest.warns(RuntimeWarning, match="no longer recorded"):
        one.train()
    assert one.state.global_step == 5
    assert list(stage(tmp_path / "run").metrics["loss/sft/mean"].steps) == [1, 2]


def test_rows_of_the_table_of_completions() -> None:
    nan = math.nan
    logs = {
        "prompt": ["p", "p", "q"],
        "completion": [[{"role": "assistant", "content": "a"}], "b", "c"],
        "rewards": {"good": [1.0, nan, nan], "short": [0.5, 0.25, nan]},
        "advantages": [0.1, -0.1, 0.0],
        "extra": {"row": [7, 8, 9]},
    }
    rows = rollout_rows(logs, weights=[2.0, 4.0], tokens=[[5, 1], [6, 7]], ends={0, 1})
    # 2·1 + 4·0.5, then 4·0.25 alone, then no reward at all
    assert [row["score"] for row in rows[:2]] == [4.0, 1.0] and math.isnan(rows[2]["score"])
    assert [row["response"] for row in rows] == ["a", "b", "c"] and rows[1]["row"] == 8
    assert [(row.get("finished"), row.get("truncated")) for row in rows] == [(True, False), (False, True), (None, None)]
    assert rows[0]["rewards_by_function"] == {"good": 1.0, "short": 0.5} and rows[0]["advantage"] == 0.1


def test_grpo_of_trl_is_recorded_with_its_rollouts(tmp_path: Path) -> None:
    """A model of 2,000 parameters on random weights: what it says is noise, and every row must add up to TRL's logs."""
    trl = pytest.importorskip("trl")
    from datasets import Dataset
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["[PAD]", "[EOS]", "[UNK]", *(f"w{n}" for n in range(13))]
    inner = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", eos_token="[EOS]")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(
        vocab_size=len(words), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=32, pad_token_id=0, eos_token_id=1, bos_token_id=None,
    )).save_pretrained(tmp_path / "model")  # fmt: skip
    model = LlamaForCausalLM.from_pretrained(tmp_path / "model")  # TRL loads the reference from where this came from

    def length(completions: list[str], **_: Any) -> list[float]:
        return [float(len(text.split())) for text in completions]

    def first(completions: list[str], **_: Any) -> list[float | None]:
        return [None if n % 4 == 3 else float("w1" in text) for n, text in enumerate(completions)]

    args = trl.GRPOConfig(
        output_dir=str(tmp_path / "out"), max_steps=4, logging_steps=1, report_to=[], use_cpu=True, bf16=False,
        per_device_train_batch_size=8, num_generations=4, max_completion_length=6, reward_weights=[0.5, 2.0],
        beta=0.04, num_iterations=2, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    prompts = Dataset.from_list([{"prompt": f"w{n}"} for n in range(12)])
    one = trl.GRPOTrainer(model, [length, first], args=args, train_dataset=prompts, processing_class=tokenizer)
    one.add_callback(RegardCallback(tmp_path / "run", one))
    one.train()
    log = stage(tmp_path / "run")
    assert read_run(tmp_path / "run").run["source"] == "trl-grpo" and log.name == "grpo"
    assert log.rollout_steps == [1, 3]  # two updates on each generation
    for step in log.rollout_steps:
        rows = log.rollouts(step).to_pylist()
        at = list(log.metrics["score/reward_model/mean"].steps).index(step)
        value = {key: series.values[at] for key, series in log.metrics.items() if step in series.steps}
        assert len(rows) == 8
        assert sum(row["score"] for row in rows) / 8 == pytest.approx(value["score/reward_model/mean"], abs=1e-5)
        assert sum(row["length"] for row in rows) / 8 == pytest.approx(value["length/response_tokens/mean"], abs=1e-5)
        assert sum(row["truncated"] for row in rows) / 8 == pytest.approx(value["finish/truncated/frac"], abs=1e-5)
        for row in rows:
            extra = json.loads(row["extra"])
            assert extra["rewards_by_function"]["length"] == len(row["response"].split()) and "advantage" in extra
            assert tokenizer.decode(row["tokens"], skip_special_tokens=True) == row["response"]
