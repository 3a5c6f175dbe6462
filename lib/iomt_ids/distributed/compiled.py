"""Compiling a function once a machine, also when the package lies in a zip."""

from __future__ import annotations

import hashlib
import inspect
import os
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_CACHE = Path(".cache", "iomt_ids", "compiled")


def compiled(function: Callable[..., Any]) -> Any:
    """Compile by numba, without the interpreter's lock; machine code is kept for the next process.

    numba keeps machine code beside the source file. Spark copies our zip into a folder of its own for every
    application, so there every job would compile again; sources in a zip are named by the zip's content instead. What is
    run is always the source that was imported. Where no folder can be written, every process compiles for itself.
    """
    source = Path(inspect.getfile(function))
    if not source.is_file():
        _name_by_content(function, source.name)
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba: "no locator available", that is, nowhere to write
        return numba.njit(nogil=True)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile into its callers of the same module: for what is called so often that the call itself counts."""
    return numba.njit(nogil=True, inline="always")(function)


@cache
def _content_of(archive: str) -> str:
    """A hash of all sources in a zip: what a function calls in other modules is part of its machine code."""
    with zipfile.ZipFile(archive) as held:
        sources = sorted((info.filename, info.CRC, info.file_size) for info in held.infolist())
    return hashlib.sha256(repr(sources).encode()).hexdigest()[:24]


def _name_by_content(function: Callable[..., Any], name: str) -> None:
    module = sys.modules[function.__module__]
    loader: Any = module.__loader__
    text = loader.get_source(module.__name__)
    try:
        folder = Path.home() / _CACHE / _content_of(loader.archive)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        target = folder / name
        if not target.is_file():
            fresh = folder / f".{name}.{os.getpid()}"
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(target)
    except (OSError, RuntimeError):  # no home, or not ours to write: a name that numba finds nothing behind
        target = Path("<no folder to keep machine code in>")
    function.__code__ = function.__code__.replace(co_filename=str(target))


def _prefetch(typing_context: Any, table: Any, row: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        length = builder.extract_value(array.strides, 0)
        byte, word = ir.IntType(8), ir.IntType(32)
        first = builder.gep(builder.bitcast(array.data, byte.as_pointer()), [builder.mul(arguments[1], length)])
        last = builder.gep(first, [builder.sub(length, length.type(1))])
        call = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte.as_pointer()], ir.FunctionType(ir.VoidType(), [byte.as_pointer(), word, word, word])
        )
        for address in (first, last):
            builder.call(call, [address, word(0), word(3), word(1)])  # to be read, often, data
        return context.get_dummy_value()

    return types.void(table, types.int64), generate


# prefetch(table, row), in compiled code alone: have a row of a two-dimensional array brought into the cache while what comes before
# it is worked on; the whole row, if it is not longer than a line of the cache. Changes no value.
prefetch: Any = intrinsic(_prefetch)
