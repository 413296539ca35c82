"""File formats of logs, in the order in which a directory is searched for them. One module each."""

from typing import cast

from regard.runlog.importers.containers import (
    csv_file,
    json_lines,
    tensorboard,
    trackio_db,
    trainer_state,
    wandb_offline,
)
from regard.runlog.importers.table import Container

CONTAINERS: dict[str, Container] = {
    "trainer_state.json": cast(Container, trainer_state),
    "JSON lines": cast(Container, json_lines),
    "TensorBoard": cast(Container, tensorboard),
    "wandb": cast(Container, wandb_offline),
    "trackio": cast(Container, trackio_db),
    "CSV": cast(Container, csv_file),
}
