"""From values to chunk objects, each decoded again from its very bytes and compared bit for bit.

A chunk that does not come back as it went in stops the conversion. Knows numpy and the codecs, no
file and no bucket.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numcodecs import VLenUTF8
from numcodecs.registry import get_codec

from zarrfuse.convert.frames import Stage, StoreObject
from zarrfuse.convert.metadata import COMPRESSOR, fill_of, fill_value
from zarrfuse.convert.model import Variable, VlenText, numpy_type
from zarrfuse.convert.plan import ArrayPlan, tiles
from zarrfuse.errors import ConversionError

Box = tuple[slice, ...]


class ArrayEncoder:
    """Encodes one array, box by box."""

    def __init__(self, path: str, variable: Variable, plan: ArrayPlan) -> None:
        self._path = path
        self._plan = plan
        self._dtype = numpy_type(variable.type)
        self._codec = get_codec(COMPRESSOR)
        self._strings = VLenUTF8() if isinstance(variable.type, VlenText) else None
        self._padding = fill_value(fill_of(variable), self._dtype)
        if self._strings is not None:
            self._padding = np.array("", object)

    def chunks(self, box: Box, values: np.ndarray) -> Iterator[StoreObject]:
        """The chunks of one box of whole chunks, in row-major order."""
        spans = [(part.start, part.stop) for part in box]
        for tile in tiles(spans, self._plan.chunks):
            inside = [
                slice(part.start - start, part.stop - start)
                for part, (start, _) in zip(tile, spans, strict=True)
            ]
            yield self._chunk(self._key(tile), _part(values, inside))

    def _key(self, tile: Box) -> str:
        index = [part.start // size for part, size in zip(tile, self._plan.chunks, strict=True)]
        return "/".join([self._path, *(map(str, index) if index else "0")])

    def _chunk(self, key: str, values: np.ndarray) -> StoreObject:
        """Always full-size, as Zarr v2 wants it: padded at the array's edges."""
        padded = values
        if values.shape != self._plan.chunks:
            padded = np.full(self._plan.chunks, self._padding, self._dtype)
            padded[tuple(slice(0, size) for size in values.shape)] = values
        padded = np.ascontiguousarray(padded).reshape(self._plan.chunks)
        raw = padded if self._strings is None else self._strings.encode(padded.reshape(-1))
        data = bytes(self._codec.encode(raw))
        if not _same(values, self._decoded(data)):
            raise ConversionError(f"chunk {key!r} does not decode to the values of the source")
        return StoreObject(key, Stage.CHUNK, data)

    def _decoded(self, data: bytes) -> np.ndarray:
        raw = self._codec.decode(data)
        if self._strings is None:
            return np.frombuffer(raw, self._dtype).reshape(self._plan.chunks)
        return np.asarray(self._strings.decode(raw), object).reshape(self._plan.chunks)


def _part(values: np.ndarray, box: Sequence[slice]) -> np.ndarray:
    """A view of one box; the ellipsis keeps a scalar an array."""
    index: tuple[Any, ...] = (*box, ...)
    part: np.ndarray = values[index]
    return part


def _same(values: np.ndarray, decoded: np.ndarray) -> bool:
    """Whether the decoded chunk begins with the very bits of `values` (NaN payloads included)."""
    part = _part(decoded, [slice(0, size) for size in values.shape])
    if part.shape != values.shape or part.dtype != values.dtype:
        return False
    if values.dtype == object:
        return bool((part == values).all())
    if values.dtype.itemsize in (1, 2, 4, 8) and values.dtype.names is None:
        bits = np.dtype(f"u{values.dtype.itemsize}")
        return np.array_equal(part.view(bits), values.view(bits))
    return part.tobytes() == values.tobytes()
