"""Frames come back as they were written, and nothing else is taken for one."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrfuse.convert.frames import (
    Done,
    ErrorKind,
    Failed,
    Frame,
    MalformedFrame,
    Progress,
    Stage,
    StoreObject,
    body_lengths,
    frame_of,
    head_bytes,
    write_frame,
)

counts = st.integers(0, 2**63)
frames: st.SearchStrategy[Frame] = (
    st.builds(StoreObject, st.text(), st.sampled_from(Stage), st.binary())
    | st.builds(Progress, counts, counts)
    | st.builds(Done, counts, counts, counts, counts)
    | st.builds(Failed, st.sampled_from(ErrorKind), st.text())
)


@given(st.lists(frames, max_size=4))
def test_they_come_back(written: list[Frame]) -> None:
    stream = io.BytesIO()
    for frame in written:
        write_frame(stream, frame)
    stream.seek(0)
    found = []
    while head := stream.read(head_bytes()):
        header, body = body_lengths(head)
        found.append(frame_of(stream.read(header), stream.read(body)))
    assert found == written


@given(st.binary(max_size=64))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedFrame):
        body_lengths(data)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"frame": "other"}',
        b'{"frame": "object", "key": 5, "stage": 0}',
        b'{"frame": "object", "key": "a", "stage": 9}',
        b'{"frame": "object", "key": "\\ud800", "stage": 0}',
        b'{"frame": "progress", "done": -1, "total": 0}',
        b'{"frame": "progress", "done": true, "total": 0}',
        b'{"frame": "failed", "kind": 0, "message": "x"}',
    ],
)
def test_wrong_fields_are_refused(header: bytes) -> None:
    with pytest.raises(MalformedFrame):
        frame_of(header, b"")
