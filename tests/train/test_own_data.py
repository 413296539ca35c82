"""The users' own comparisons instead of the fetched ratings."""

import json
from pathlib import Path

from support import micro_run, read_json

WORDS = ("plot", "cast", "music", "ending", "camera", "pace", "script", "humour")


def test_own_comparisons_train_a_reward_model_and_a_policy(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"The {word} in scene {i} was", "chosen": " a joy to watch.", "rejected": " dull and far too long."}
        for i in range(6)
        for word in WORDS
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sets = ["--set", f"data.comparisons={path}", "--set", "rm.steps=20", "--set", "rm.batch_size=8"]
    done = micro_run(tmp_path / "run", *sets, "--set", "data.max_rm_groups=0", "--set", "rm.warmup_steps=1")
    assert done.returncode == 0, done.stderr
    evaluation = read_json(tmp_path / "run/stages/rm/evaluation.json")
    assert evaluation["accuracy"] == 1.0, "the same two answers everywhere: nothing is easier to rank"
    assert "human_ceiling" not in evaluation, "one label per pair says nothing of how far people agree"
    assert "human_ceiling" not in read_json(tmp_path / "run/summary.json")["reward_model"]
    assert any("pairs.jsonl" in name for name in read_json(tmp_path / "run/lineage.json")["inputs"])


def test_too_few_comparisons_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "p", "chosen": "a", "rejected": "b"}) + "\n", encoding="utf-8")
    done = micro_run(tmp_path / "run", "--set", f"data.comparisons={path}")
    assert done.returncode == 2 and "at least 10" in done.stderr and "Traceback" not in done.stderr
