"""The fixtures beside this file, by the packages that write them, in an environment of their own:

    python -m venv .other && .other/bin/pip install wandb==0.31.0 trackio==0.43.0
    .other/bin/python tests/runlog/logs/make_logs.py OUT

The text key is long so that the file has more than one block of 32 KiB.
"""

import os
import sys
from pathlib import Path


def rows() -> list[tuple[int, dict[str, object]]]:
    return [
        (
            2 * n,
            {
                "objective/kl": 0.2 * n,
                "objective/scores": n / 9 if n != 7 else float("nan"),
                "policy/approxkl_avg": 0.01,
                "text": "x" * 350,
            },
        )
        for n in range(40)
    ]


def main() -> None:
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(out)
    config = {"kl_estimator": "k3", "nested": {"a": 1}}
    import wandb

    quiet = wandb.Settings(disable_git=True, disable_code=True, console="off", x_disable_stats=True, host="host",
                           x_disable_meta=True, x_disable_machine_info=True)  # fmt: skip
    run = wandb.init(project="p", config=config, mode="offline", settings=quiet)
    for step, row in rows():
        run.log(row, step=step)
    run.finish()

    os.environ["TRACKIO_DIR"] = str(out.resolve())
    import trackio

    for name in ("first", "second"):
        trackio.init(project="p", name=name, config=config)
        for step, row in rows():
            trackio.log(
                {**row, "text": "x", "objective/kl": 0.0 if name == "first" else row["objective/kl"]}, step=step
            )
        trackio.finish()


if __name__ == "__main__":
    main()
