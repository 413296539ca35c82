"""Logs of other trainers: what their keys mean, and files as crashes and restarts leave them."""

import json
import math
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regard.config import load_recipe, value_at
from regard.errors import RunLogError
from regard.review import review
from regard.review.causes import all_causes
from regard.runlog.importers import read_any
from regard.runlog.importers.vocabularies import VOCABULARIES
from regard.runlog.importers.wire import WireError, fields, signed
from regard.runlog.metrics import METRICS
from regard.runlog.reader import RunLog

HERE = Path(__file__).parent
PPO = {"objective/kl": 8.0, "objective/scores": 1.0, "policy/approxkl_avg": 0.01, "objective/entropy": -3.0}


def trainer_state(directory: Path, rows: list[dict[str, Any]]) -> Path:
    path = directory / "trainer_state.json"
    path.write_text(json.dumps({"global_step": len(rows), "log_history": rows}), encoding="utf-8")
    return path


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def stage(run: RunLog) -> Any:
    (only,) = run.stages.values()
    return only


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize("config", [{}, {"kl_estimator": "k3", "loss_agg_mode": "token-mean", "kl_loss_type": "kl"}])
def test_every_meaning_is_a_declared_metric(name: str, config: dict[str, Any]) -> None:
    vocabulary = VOCABULARIES[name]
    meanings = [vocabulary.meaning(key, config) for key in vocabulary.keys]
    meanings += [vocabulary.meaning(vocabulary.eval_prefixes[0] + key, config) for key in vocabulary.eval_keys]
    assert all(known for known, _ in meanings)
    assert [metric for _, metric in meanings if metric is not None and metric not in METRICS] == []


@pytest.mark.parametrize("name", ["trl-ppo", "trl-grpo", "trl-rloo", "trl-dpo", "trl-reward"])
def test_what_our_settings_are_called_is_what_trl_has(name: str) -> None:
    """Against the settings of real runs of TRL; warm-up, steps and rates are the Trainer's own."""
    real = json.loads((HERE / f"trl_healthy/{name.removeprefix('trl-')}-1/training_args.json").read_text())
    theirs = VOCABULARIES[name].config_keys
    assert theirs and set(theirs.values()) <= set(real)
    plain = load_recipe("tiny").model_dump(mode="json")
    advised = {change.key for cause in all_causes().values() for change in cause.changes}
    for key in theirs.keys() - advised:  # a cause may advise a key that only other trainers have
        value_at(plain, key)


def test_ppo_kl_of_trl_is_a_sum_and_its_estimator_a_setting(tmp_path: Path) -> None:
    rows = [{"step": n, "epoch": n / 10, **PPO} for n in range(1, 11)]
    trainer_state(tmp_path, rows)
    unknown = read_any(tmp_path)
    assert unknown.run["source"] == "trl-ppo" and "kl/policy_ref_unknown/seq_sum" in stage(unknown).metrics
    (tmp_path / "config.yaml").write_text("kl_estimator: k3\n", encoding="utf-8")
    assert "kl/policy_ref_k3/seq_sum" in stage(read_any(tmp_path)).metrics
    assert all(not key.startswith("entropy/") for key in stage(unknown).metrics)  # pads are counted in that key


def test_eight_nats_are_judged_by_their_unit(tmp_path: Path) -> None:
    """8 per sequence is usual, 8 per token ruin, and 8 of nobody knows what decides nothing."""
    ppo = read_any(trainer_state(tmp_path, [{"step": n, **PPO} for n in range(1, 30)]))
    result = review(ppo)
    assert result.findings == () and result.verdict == "healthy"
    assert "KL001" in {one.detector.code for one in result.clear}  # looked at, not passed over

    group = {"reward": 1.0, "frac_reward_zero_std": 0.1, "completions/mean_length": 40.0, "kl": 8.0}
    grpo = read_any(jsonl(tmp_path / "grpo.jsonl", [{"step": n, **group} for n in range(1, 30)]))
    assert [(f.detector.code, f.severity) for f in review(grpo).findings] == [("KL001", "error")]
    assert review(grpo).verdict == "failed"

    bare = read_any(jsonl(tmp_path / "bare.jsonl", [{"step": n, "kl": 8.0} for n in range(1, 30)]))
    result = review(bare)
    assert result.findings == () and result.verdict == "inconclusive"
    (unknown,) = [one for one in result.not_checked if one.detector.code == "KL001"]
    assert "does not say whether per token" in unknown.outcome.reason

    per_token = tmp_path / "per_token.yaml"  # and the same log once somebody says what it is
    per_token.write_text("keys: {kl: kl/policy_ref_k1/token_mean}\n", encoding="utf-8")
    assert review(read_any(tmp_path / "bare.jsonl", mapping=per_token)).verdict == "failed"
    per_sequence = tmp_path / "per_sequence.yaml"
    per_sequence.write_text("keys: {kl: kl/policy_ref_k1/seq_sum}\n", encoding="utf-8")
    assert review(read_any(tmp_path / "bare.jsonl", mapping=per_sequence)).verdict == "healthy"


def test_who_wrote_a_log_of_groups_is_read_from_its_configuration(tmp_path: Path) -> None:
    row = {"reward": 1.0, "frac_reward_zero_std": 0.1, "completions/mean_length": 40.0, "kl": 0.1}
    path = trainer_state(tmp_path, [{"step": n, **row} for n in range(1, 5)])
    assert "kl/policy_ref_unknown/token_mean" in stage(read_any(path)).metrics
    assert "kl/policy_ref_k1/token_mean" in stage(read_any(path, "trl-rloo")).metrics
    (tmp_path / "training_args.json").write_text('{"scale_rewards": "group"}', encoding="utf-8")
    run = read_any(path)
    assert run.run["source"] == "trl-grpo" and "kl/policy_ref_k3/token_mean" in stage(run).metrics


def test_verl_kl_loss_is_reduced_as_the_configuration_says(tmp_path: Path) -> None:
    data = {"actor/pg_loss": 0.1, "critic/score/mean": 0.4, "actor/kl_loss": 0.3, "actor/ppo_kl": -0.01}
    jsonl(tmp_path / "metrics.jsonl", [{"step": n, "data": data} for n in range(4)])
    assert "kl/policy_ref_unknown/unknown" in stage(read_any(tmp_path)).metrics
    settings = {"actor_rollout_ref": {"actor": {"kl_loss_type": "low_var_kl", "loss_agg_mode": "seq-mean-token-sum"}}}
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    metrics = stage(read_any(tmp_path)).metrics
    assert "kl/policy_ref_k3/seq_sum" in metrics and "kl/old_new_k1/mean" in metrics


@pytest.mark.parametrize(
    ("algorithm", "source", "kl"),
    [
        ("ppo", "trl-ppo", "kl/policy_ref_k1/seq_sum"),
        ("grpo", "trl-grpo", "kl/policy_ref_k3/token_mean"),
        ("rloo", "trl-rloo", "kl/policy_ref_k1/token_mean"),
        ("dpo", "trl-dpo", None),
        ("reward", "trl-reward", None),
    ],
)
def test_real_logs_of_trl_are_understood_whole(algorithm: str, source: str, kl: str | None) -> None:
    """By TRL 1.12.0 (PPO) and 1.16.0, made with trl_logs/make_trl_logs.py; healthy runs, so no error is found."""
    run = read_any(Path(__file__).parent / "trl_logs" / algorithm)
    assert run.run["source"] == source and stage(run).notes == []
    assert kl is None or len(stage(run).metrics[kl].values) == 60
    result = review(run)
    assert [finding for finding in result.findings if finding.severity == "error"] == []
    assert len(result.clear) >= 4


def test_evaluation_rows_are_kept_apart(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"step": 10, "loss": 0.5, "min_reward": -1, "mean_reward": 0, "max_reward": 1, "accuracy": 0.9},
        {"step": 10, "eval_loss": 0.7, "eval_accuracy": 0.6, "eval_runtime": 3.0},
        {"step": 10, "train_runtime": 9.0, "total_flos": 1e9},
    ]
    log = stage(read_any(trainer_state(tmp_path, rows)))
    assert log.name == "rm" and log.notes == []
    assert log.metrics["rm/accuracy_train/mean"].values[0] == 0.9
    assert log.metrics["rm/accuracy_val/mean"].values[0] == 0.6
    assert log.metrics["rm/loss_val/mean"].values[0] == 0.7


def test_latest_checkpoint_is_read(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        (tmp_path / f"checkpoint-{step}").mkdir()
        trainer_state(tmp_path / f"checkpoint-{step}", [{"step": n, **PPO} for n in range(step)])
    assert int(stage(read_any(tmp_path)).metrics["score/reward_model/mean"].steps[-1]) == 99


def test_restart_keeps_the_later_points(tmp_path: Path) -> None:
    rows = [{"step": n, "kl": 1.0} for n in range(10)] + [{"step": n, "kl": 2.0} for n in range(5, 12)]
    log = stage(read_any(jsonl(tmp_path / "log.jsonl", rows)))
    values = log.metrics["kl/policy_ref_unknown/unknown"].values
    assert list(values) == [1.0] * 5 + [2.0] * 7
    assert any("5 step(s) from 5 to 9 were logged twice" in note for note in log.notes)


def test_nothing_is_lost_without_a_word(tmp_path: Path) -> None:
    rows = [{"step": 1, "kl": float("nan"), "my/secret": 3, "note": "text"}, {"kl": 1.0}]
    path = jsonl(tmp_path / "log.jsonl", rows)
    path.write_text(path.read_text() + "{broken\n" + '{"step": 5, "kl"', encoding="utf-8")
    log = stage(read_any(path))
    assert math.isnan(log.metrics["kl/policy_ref_unknown/unknown"].values[-1])
    said = " ".join(log.notes)
    for word in ("my/secret", "note (line 1)", "state no step", "line 3", "torn"):
        assert word in said, (word, log.notes)


def test_csv_with_holes(tmp_path: Path) -> None:
    path = tmp_path / "wandb.csv"
    path.write_text("Step,objective/kl,objective/scores,policy/approxkl_avg\n1,0.5,,0.01\n2,NaN,1.5,0.01\n3,1\n")
    log = stage(read_any(path))
    assert list(log.metrics["score/reward_model/mean"].values) == [1.5]
    assert math.isnan(log.metrics["kl/policy_ref_unknown/seq_sum"].values[1])
    assert any("1 row(s) have more or fewer cells" in note for note in log.notes)


def test_mapping_says_what_keys_mean(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "log.jsonl", [{"step": n, "loss/kl_nats": 8.0} for n in range(9)])
    mapping = tmp_path / "map.yaml"
    mapping.write_text("keys: {loss/kl_nats: kl/policy_ref_k1/token_mean}\nstage: grpo\n", encoding="utf-8")
    result = review(read_any(path, mapping=mapping))
    assert [(f.detector.code, f.stage) for f in result.findings] == [("KL001", "grpo")]
    mapping.write_text("keys: {loss/kl_nats: kl/policy_ref_k1/token_men}\n", encoding="utf-8")
    with pytest.raises(RunLogError, match="Did you mean kl/policy_ref_k1/token_mean"):
        read_any(path, mapping=mapping)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("trainer_state.json", "{}"),
        ("trainer_state.json", '{"log_history": "x"}'),
        ("trainer_state.json", "\x00"),
        ("log.jsonl", ""),
        ("log.csv", "step,kl\n"),
        ("events.out.tfevents.1", "abc"),
        ("notes.txt", "kl 8"),
    ],
)
def test_a_file_without_a_log_is_one_sentence(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(RunLogError) as error:
        read_any(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_unknown_source_is_answered_with_a_near_one(tmp_path: Path) -> None:
    with pytest.raises(RunLogError, match="Did you mean trl-ppo"):
        read_any(tmp_path, "trl-pop")
    with pytest.raises(RunLogError, match="does not exist"):
        read_any(tmp_path / "none")


# ---------------------------------------------------------------------------------------------------- TensorBoard


def write_events(directory: Path, points: list[tuple[str, int, float]]) -> Path:
    """By TensorBoard's own writer; one series also as the tensors that TensorFlow 2 writes."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    writer = EventFileWriter(str(directory))
    for tag, step, value in points:
        writer.add_event(
            Event(step=step, wall_time=1e9, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))
        )
        tensor = Summary.Value(tag=tag + "/as_tensor", tensor=make_tensor_proto(value, dtype=float))
        writer.add_event(Event(step=step, wall_time=1e9, summary=Summary(value=[tensor])))
    text = Summary.Value(tag="args/text_summary", tensor=make_tensor_proto(b"{}"))
    writer.add_event(Event(step=0, wall_time=1e9, summary=Summary(value=[text])))
    writer.close()
    (file,) = directory.glob("events.out.tfevents.*")
    return file  # fmt: skip


def test_event_files_are_read_as_tensorboard_reads_them(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    points = [(f"train/{key}", n, value + n / 7) for n in range(20) for key, value in PPO.items()]
    write_events(tmp_path, points)
    oracle = EventAccumulator(str(tmp_path), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    log = stage(read_any(tmp_path))
    expected = oracle.Scalars("train/objective/kl")
    series = log.metrics["kl/policy_ref_unknown/seq_sum"]
    assert list(series.steps) == [event.step for event in expected]
    assert list(series.values) == [event.value for event in expected]
    assert list(series.times) == [event.wall_time for event in expected]
    assert any("objective/kl/as_tensor" in note for note in log.notes)  # read, and not understood


def test_an_event_file_is_read_up_to_any_place_where_it_breaks_off(tmp_path: Path) -> None:
    file = write_events(tmp_path, [("train/" + key, n, value) for n in range(3) for key, value in PPO.items()])
    content = file.read_bytes()
    seen = []
    for end in range(0, len(content), 3):
        file.write_bytes(content[:end])
        seen.append(points_or_error(file))
    assert seen == sorted(seen) and seen[-1] > 0


def test_wire_format_by_hand() -> None:
    # field 1 varint 150 = 08 96 01; field 2 bytes "ab" = 12 02 61 62; field 3 fixed32 1 = 1d 01 00 00 00
    message = bytes.fromhex("089601" + "12026162" + "1d01000000")
    assert list(fields(message)) == [(1, 150), (2, b"ab"), (3, struct.pack("<i", 1))]
    assert signed(2**64 - 1) == -1 and signed(5) == 5
    for end in (1, 2, 4, 5, 9):
        with pytest.raises(WireError):
            list(fields(message[:end]))


# ------------------------------------------------------------------------------- files of wandb and of trackio
# written by these packages with logs/make_logs.py


LOGS = Path(__file__).parent / "logs"


@pytest.mark.parametrize("name", ["run-068mn5nh.wandb", "p.db"])
def test_what_dashboards_store_is_read_without_them(name: str) -> None:
    run = read_any(LOGS / name)
    assert run.run["source"] == "trl-ppo"
    assert run.config["kl_estimator"] == "k3" and run.config["nested"] == {"a": 1}
    kl = stage(run).metrics["kl/policy_ref_k3/seq_sum"]
    assert list(kl.steps) == list(range(0, 80, 2))
    assert list(kl.values) == pytest.approx([0.2 * n for n in range(40)], rel=1e-12)
    score = stage(run).metrics["score/reward_model/mean"]
    assert math.isnan(score.values[7]) and score.values[8] == pytest.approx(8 / 9, rel=1e-12)
    assert any("text" in note for note in stage(run).notes)


def test_a_wandb_file_is_read_up_to_any_place_where_it_breaks_off(tmp_path: Path) -> None:
    content = (LOGS / "run-068mn5nh.wandb").read_bytes()
    path = tmp_path / "run.wandb"
    seen = []
    for end in range(0, len(content), 663):
        path.write_bytes(content[:end])
        seen.append(points_or_error(path))
    assert seen == sorted(seen) and seen[-1] > 100


def test_a_flipped_bit_costs_one_block_of_a_wandb_file(tmp_path: Path) -> None:
    content = bytearray((LOGS / "run-068mn5nh.wandb").read_bytes())
    content[2000] ^= 1
    path = tmp_path / "run.wandb"
    path.write_bytes(content)
    log = stage(read_any(path))
    assert 0 < len(log.metrics["score/reward_model/mean"].values) < 40
    assert any("1 damaged block(s)" in note for note in log.notes)


# ------------------------------------------------------------------------------------------------ damaged files


def points_or_error(path: Path) -> int:
    """How many points are read; 0 where it is refused with one sentence. Anything else is a failure."""
    try:
        run = read_any(path)
    except RunLogError as error:
        assert "\n" not in str(error)
        return 0
    review(run)
    return sum(len(series.values) for series in stage(run).metrics.values())


ROWS = [{"step": n, "epoch": 0.1 * n, **PPO, "val/ratio": 1.0, "lr": 1e-5} for n in range(1, 4)]


def sample(directory: Path, kind: str) -> Path:
    if kind == "trainer_state.json":
        return trainer_state(directory, ROWS)
    if kind == "jsonl":
        return jsonl(directory / "metrics.jsonl", [{"step": r["step"], "data": r} for r in ROWS])
    if kind == "csv":
        path = directory / "log.csv"
        header = list(ROWS[0])
        lines = [",".join(header), *(",".join(str(row[key]) for key in header) for row in ROWS)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path
    if kind in ("wandb", "trackio"):
        name = "run-068mn5nh.wandb" if kind == "wandb" else "p.db"
        shutil.copy(LOGS / name, directory / name)
        return directory / name
    return write_events(directory, [(key, int(row["step"]), float(row[key])) for row in ROWS for key in PPO])


KINDS = ("trainer_state.json", "jsonl", "csv", "tfevents", "wandb", "trackio")


@pytest.mark.parametrize("kind", KINDS[:3])
def test_every_prefix_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    path = sample(tmp_path, kind)
    content = path.read_bytes()
    whole = points_or_error(path)
    seen: list[int] = []
    for end in range(len(content)):
        path.write_bytes(content[:end])
        seen.append(points_or_error(path))
    assert whole > 0 and max(seen) <= whole
    if kind != "csv":  # a csv cut in a cell has another number there
        assert seen == sorted(seen)


def mutate(path: Path, content: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    for at, cut, insert in edits:
        at %= len(content) + 1
        content = content[:at] + insert + content[at + cut :]
    path.write_bytes(content)


EDITS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 40), st.binary(max_size=8)), min_size=1, max_size=6)


def survives_mutations(directory: Path, kind: str, examples: int) -> None:
    path = sample(directory, kind)
    content = path.read_bytes()

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(EDITS)
    def check(edits: list[tuple[int, int, bytes]]) -> None:
        mutate(path, content, edits)
        points_or_error(path)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    survives_mutations(tmp_path, kind, 200)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_mutated_files_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    survives_mutations(tmp_path, kind, 10_000)
