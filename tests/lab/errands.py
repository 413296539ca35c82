"""Tasks for the processes of the benchmark; a module of its own, so that a process has little to import."""

import os
import time


def errand(task: str) -> int:
    if task == "sleep":
        time.sleep(60)
    if task == "die":
        os._exit(3)
    return 10 // int(task)
