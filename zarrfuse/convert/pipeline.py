"""One file, from opening to its last object: describe, plan, read, encode, check, in that order.

Emits objects in the order of publication (chunks, metadata of arrays, groups and the root,
`.zmetadata`), so whoever stores them in order shows readers a whole store or none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import zarrfuse
from zarrfuse.convert.attributes import Document
from zarrfuse.convert.check import check_metadata
from zarrfuse.convert.encode import ArrayEncoder
from zarrfuse.convert.frames import Done, Frame, Progress, StoreObject
from zarrfuse.convert.metadata import check_names, documents, metadata_objects
from zarrfuse.convert.model import Variable
from zarrfuse.convert.plan import DEFAULT_SIZES, ArrayPlan, Sizes, boxes, plan_store
from zarrfuse.convert.sources import Source
from zarrfuse.errors import ConversionError


@dataclass(frozen=True, slots=True)
class Origin:
    """What the store will say of the file it was made from: never a path."""

    name: str
    size: int
    sha256: str

    def document(self) -> Document:
        return {
            "name": self.name,
            "size": self.size,
            "sha256": self.sha256,
            "tool": f"zarrfuse {zarrfuse.__version__}",
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }


class Conversion:
    """Converts one file, once; `emit` gets every frame but the last, which is the result."""

    def __init__(
        self,
        path: Path,
        origin: Origin,
        emit: Callable[[Frame], None],
        sizes: Sizes = DEFAULT_SIZES,
    ) -> None:
        self._path = path
        self._origin = origin
        self._emit = emit
        self._sizes = sizes
        self._objects = self._encoded = self._raw = self._total = 0

    def run(self) -> Done:
        """NotNetCDF, Unsupported, or ConversionError where the store would not be the file."""
        before = _version(self._path)
        with Source(self._path) as source:
            check_names(source.root)
            variables = dict(source.root.all_variables())
            plans = plan_store(variables, self._sizes)
            docs = documents(source.root, plans, self._origin.document())
            metadata = list(metadata_objects(source.root, docs))
            check_metadata(source.root, metadata)
            self._total = sum(variable.raw_bytes for variable in variables.values())
            self._emit(Progress(0, self._total))
            for path, variable in variables.items():
                self._array(source, path, variable, plans[path])
        if _version(self._path) != before:
            raise ConversionError("the file changed while it was read")
        for item in metadata:
            self._send(item)
        return Done(self._objects, len(variables), self._raw, self._encoded)

    def _array(self, source: Source, path: str, variable: Variable, plan: ArrayPlan) -> None:
        encoder = ArrayEncoder(path, variable, plan)
        for box in boxes(variable.shape, plan, variable.item_bytes, self._sizes.box):
            values = source.read(path, variable, box)
            for item in encoder.chunks(box, values):
                self._send(item)
            self._raw += values.nbytes
            self._emit(Progress(self._raw, self._total))

    def _send(self, item: StoreObject) -> None:
        self._emit(item)
        self._objects += 1
        self._encoded += len(item.data)


def _version(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns
