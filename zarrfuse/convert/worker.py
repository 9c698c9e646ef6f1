"""The converter process: `python -m zarrfuse.convert.worker SOURCE --options JSON`.

Writes frames to its standard output and nothing else there; what the libraries print goes to
standard error. Has no keys and no network. It may crash: whoever started it tells the user.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from zarrfuse.convert.frames import ErrorKind, Failed, Frame, Progress, StoreObject, write_frame
from zarrfuse.convert.pipeline import Conversion, Origin
from zarrfuse.convert.sandbox import confine
from zarrfuse.errors import ConversionError, NotNetCDF, Unsupported

#: Exit codes that the parent may rely on: an error frame was sent; memory ran out.
EXIT_FAILED, EXIT_MEMORY = 1, 3


@dataclass(frozen=True, slots=True)
class Options:
    """`name` is what the user calls the file: the spool keeps it under another. 0: no limit."""

    name: str = ""
    sha256: str = ""
    memory_bytes: int = 0
    cpu_s: int = 0


def main() -> int:
    """Converts one file; 0 after a Done frame."""
    parser = argparse.ArgumentParser(prog="zarrfuse-convert-worker")
    parser.add_argument("source", type=Path)
    parser.add_argument("--options", default="{}", help="JSON, see Options")
    arguments = parser.parse_args()
    options = Options(**json.loads(arguments.options))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    with _frames() as stream:
        return _guarded(arguments.source, options, stream)


def _frames() -> BinaryIO:
    """Standard output, kept for frames: what C libraries print there goes to the log instead."""
    sys.stdout.flush()
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "wb")


def _guarded(source: Path, options: Options, stream: BinaryIO) -> int:
    name = options.name or source.name
    try:
        confine(options.memory_bytes, options.cpu_s)
        result = _convert(source, name, options.sha256, stream)
    except MemoryError:
        traceback.print_exc()
        return EXIT_MEMORY
    except Exception as error:  # noqa: BLE001 (the last handler of the process; told and logged)
        traceback.print_exc()
        result = Failed(_kind(error), _sentence(error, source, name))
    write_frame(stream, result)
    stream.flush()
    return EXIT_FAILED if isinstance(result, Failed) else 0


def _convert(source: Path, name: str, sha256: str, stream: BinaryIO) -> Frame:
    if not sha256:
        with source.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    origin = Origin(name, source.stat().st_size, sha256)

    def emit(frame: Frame) -> None:
        write_frame(stream, frame)
        if not isinstance(frame, StoreObject):
            stream.flush()

    emit(Progress(0, 0))
    return Conversion(source, origin, emit).run()


def _kind(error: Exception) -> ErrorKind:
    match error:
        case NotNetCDF():
            return ErrorKind.NOT_NETCDF
        case Unsupported():
            return ErrorKind.UNSUPPORTED
        case _:
            return ErrorKind.OTHER


def _sentence(error: Exception, source: Path, name: str) -> str:
    """One line for the file's owner, without the path under which we keep it."""
    text = str(error) if isinstance(error, ConversionError) else f"{type(error).__name__}: {error}"
    text = text.replace(str(source), name).replace(f"{source.parent}/", "")
    return f"{name}: {' '.join(text.split())}"


if __name__ == "__main__":
    sys.exit(main())
