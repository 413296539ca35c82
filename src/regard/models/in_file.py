"""Weights that nothing trains, in a file: memory holds them while they are used."""

import mmap
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn


class InFile:
    """The parameters of `modules` can leave memory: they move into a file in `directory` that has no name and goes with
    the process. Where the disk is full they stay.

    The modules compute as before. What is read comes into memory page by page, from where the system keeps files at
    hand if it has memory to spare, and from the disk if not.
    """

    def __init__(self, modules: Iterable[nn.Module], directory: Path) -> None:
        self.parameters = list({id(p): p for module in modules for p in module.parameters()}.values())
        self.directory = directory
        self.pages: mmap.mmap | None = None
        self.moved = False

    def leave(self) -> None:
        """No weight is in this process's memory, until it is read again."""
        if not self.moved:
            self.moved = True
            with suppress(OSError):
                self._move()
        if self.pages is not None:
            with suppress(AttributeError):  # not every system takes advice
                self.pages.madvise(mmap.MADV_DONTNEED)

    def _move(self) -> None:
        places: list[int] = []
        with tempfile.TemporaryFile(dir=self.directory) as file:
            for parameter in self.parameters:
                file.seek(-file.tell() % mmap.PAGESIZE, 1)
                places.append(file.tell())
                file.write(parameter.detach().contiguous().view(torch.uint8).numpy().data)
            file.flush()
            self.pages = mmap.mmap(file.fileno(), 0)
        for parameter, place in zip(self.parameters, places, strict=True):
            flat = torch.frombuffer(self.pages, dtype=parameter.dtype, count=parameter.numel(), offset=place)
            parameter.data = flat.view(parameter.shape)
