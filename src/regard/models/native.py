"""C, compiled by the system's compiler when it is first needed: in half a second, for this processor."""

import ctypes
import os
import shlex
import subprocess
import tempfile
from contextlib import suppress
from ctypes import c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from regard.models.sizes import SHORT

if TYPE_CHECKING:  # `regard doctor` asks for the compiler where there may be no torch
    from torch import Tensor

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = "-O3 -march=native -shared -fPIC -fno-math-errno -fno-trapping-math -fassociative-math -fno-signed-zeros"
"""Sums may be put in another order, for the sake of wide registers; nothing else of the arithmetic is given up."""
BLOCK = 64
"""Rows whose gradients of a weight are added up at once."""
_SIGNATURES = {
    "rms_norm": [c_void_p] * 3 + [c_int64] * 2 + [c_float],
    "rms_norm_backward": [c_void_p] * 5 + [c_int64] * 2 + [c_float],
    "silu_times": [c_void_p] * 3 + [c_int64] * 3,
    "silu_times_backward": [c_void_p] * 5 + [c_int64] * 2,
    "attend_new": [c_void_p] * 8 + [c_int64] * 4 + [c_float],
    "attend": [c_void_p] * 7 + [c_int64] * 2 + [c_float],
    "attend_backward": [c_void_p] * 10 + [c_int64] * 2 + [c_float],
}


def compiler() -> list[str]:
    """What calls the C compiler: the words of `$CC`, or `cc`."""
    return shlex.split(os.environ.get("CC") or "cc")


@cache
def compiled(source: Path, options: tuple[str, ...] = ()) -> ctypes.CDLL | None:
    """The functions of one file; None where nothing here compiles it."""
    for threads in (["-fopenmp"], []):  # a compiler without OpenMP makes one thread of it
        with tempfile.TemporaryDirectory() as directory:
            target = Path(directory) / "library.so"
            command = [*compiler(), *FLAGS.split(), *threads, *options, str(source), "-o", str(target), "-lm"]
            with suppress(OSError, subprocess.SubprocessError):
                subprocess.run(command, check=True, capture_output=True, timeout=60)
                return ctypes.CDLL(str(target))
    return None


@cache
def kernels(width: int, sharing: int) -> ctypes.CDLL | None:
    """`kernels.c` for heads of that width and so many queries a key; None where nothing here compiles it."""
    library = compiled(SOURCE, (f"-DWIDTH={width}", f"-DSHARING={sharing}", f"-DSHORT={SHORT}", f"-DBLOCK={BLOCK}"))
    if library is not None:
        for name, arguments in _SIGNATURES.items():
            getattr(library, name).argtypes = arguments
            getattr(library, name).restype = None
    return library


def at(x: "Tensor") -> int:
    """Where the numbers of a tensor lie, one after another; the caller must hold it until they are read."""
    assert x.is_contiguous() and x.device.type == "cpu"
    return x.data_ptr()
