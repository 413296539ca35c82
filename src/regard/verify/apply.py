"""`verify --apply`: what a proven fix leaves behind, a corrected recipe and a run that went on from the fork."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regard.errors import ConfigError


def keep_fixed(path: Path, result: Mapping[str, Any]) -> dict[str, str] | None:
    """Keep the proven arm of the run's own seed beside the run, as RUN-fixed.

    That arm began at the fork with the run's own data, order and random numbers, and went on to the end: it is the run,
    corrected. Its lineage names the fork and every hash; its configuration is the corrected recipe.

    Returns:
        Where run and recipe are; None where no fix was proven, and nothing is kept.
    Raises:
        ConfigError: something else lies there.
    """
    proven = [trial for trial in result["trials"] if trial["outcome"] == "proven"]
    if not proven:
        return None
    arm = Path(proven[0]["arms"]["fix"]["runs"][0]["path"])
    target = path.resolve().with_name(f"{path.resolve().name}-fixed")
    if not target.exists():
        part = target.with_name(f"{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(arm, part)
        part.rename(target)
    elif (target / "run.json").read_bytes() != (arm / "run.json").read_bytes():
        raise ConfigError(f"{target} is another run. Move it away and type the same command again: no arm is repeated.")
    return {"run": str(target), "recipe": str(target / "config.yaml")}
