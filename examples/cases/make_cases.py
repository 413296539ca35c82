"""Writes each case of cases.yaml as a run record: `regard review examples/cases/C1`."""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent

COLUMNS = {
    "rm_score": "score/reward_model/mean",
    "kl_ref": "kl/policy_ref_k1/seq_sum",
    "beta": "kl/coef/value",
    "words": "length/response_tokens/mean",
    "gold": "gold/judge/mean",
    "win_vs_ref": "gold/win_vs_reference/frac",
    "violation": "behaviour/violation/frac",
    "refusal_on_unsafe": "behaviour/refusal_on_unsafe/frac",
    "ratio_max": "ratio/old_new/max",
    "clip_frac": "clip/policy/frac",
    "adv_pos_frac": "advantage/positive/frac",
}


def main() -> None:
    content = yaml.safe_load((HERE / "cases.yaml").read_text(encoding="utf-8"))
    for name, case in content["cases"].items():
        write_case(HERE / name, name, case, content["columns"])


def write_case(out: Path, name: str, case: dict[str, Any], columns: list[str]) -> None:
    shutil.rmtree(out, ignore_errors=True)
    (out / "stages/ppo").mkdir(parents=True)
    run = {"schema": 1, "id": name.replace("/", "-"), "recipe": "case study", "stages": {"ppo": {"status": "done"}}}
    (out / "run.json").write_text(json.dumps(run | {"story": case["story"]}, indent=2) + "\n", encoding="utf-8")
    (out / "config.yaml").write_text(yaml.safe_dump({"ppo": case["config"]}), encoding="utf-8")
    lines: list[str] = []
    for number, values in enumerate(case["metrics"]):
        row = dict(zip(columns, values, strict=True))
        sign = 1 if case.get("total_reward") == "added" else -1
        kl = case["kl_logged"][number] if "kl_logged" in case else row["kl_ref"]
        metrics = {key: row[column] for column, key in COLUMNS.items()}
        metrics["kl/policy_ref_k1/seq_sum"] = kl
        metrics["score/total_reward/mean"] = round(row["rm_score"] + sign * row["beta"] * kl, 6)
        if "kl_logged" not in case:
            metrics["kl/policy_ref_k1/slice_max"] = max(row["kl_brief"], row["kl_open"])
            metrics["kl/policy_ref_k1/slice_min"] = min(row["kl_brief"], row["kl_open"])
        lines.append(json.dumps({"step": row["update"], "metrics": metrics}))
    (out / "stages/ppo/metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if "rm" in case:
        (out / "stages/rm").mkdir()
        table = zip(*case["rm"].values(), strict=True)
        keys = ("loss/rm/mean", "rm/accuracy_val/mean", "rm/accuracy_policy_pairs/mean")
        rows = [{"step": n, "metrics": dict(zip(keys, values, strict=True))} for n, values in enumerate(table)]
        (out / "stages/rm/metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
