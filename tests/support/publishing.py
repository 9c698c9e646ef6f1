"""publish_store with what tests usually want, and a converter made of a few lines of Python."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zarrfuse.convert.frames import Progress
from zarrfuse.core.keys import Key, ObjectMeta, Prefix
from zarrfuse.dropbox.publish import PublishStore, Summary, publish_store
from zarrfuse.dropbox.worker import Command, Limits

ROOT = Prefix("a/x.zarr/")
LIMITS = Limits(memory_bytes=4 << 30, deadline_s=60.0)

_START = """
import json, os, signal, sys, time
from zarrfuse.convert.frames import *
out = sys.stdout.buffer
def send(frame):
    write_frame(out, frame)
    out.flush()
def obj(key, stage, data=b"x"):
    send(StoreObject(key, stage, data))
def store():
    obj("v/0", Stage.CHUNK)
    obj("v/.zarray", Stage.ARRAY_METADATA)
    obj(".zattrs", Stage.ROOT_METADATA)
    obj(".zmetadata", Stage.CONSOLIDATED)
"""


def converter(code: str) -> Command:
    """A worker that does what `code` says; `send`, `obj` and `store` write frames."""
    return (sys.executable, "-P", "-s", "-c", _START + code)


class Heard:
    """What the callbacks were told."""

    def __init__(self) -> None:
        self.published: list[ObjectMeta] = []
        self.removed: list[Key] = []
        self.progress: list[Progress] = []


def publish(
    store: PublishStore,
    source: Path,
    *,
    name: str = "x.nc",
    root: Prefix = ROOT,
    overwrite: bool = False,
    heard: Heard | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    **rest: Any,
) -> Summary:
    heard = heard or Heard()
    given = {"limits": LIMITS, "at_once": 4, **rest}
    return publish_store(
        store,
        root,
        source,
        name=name,
        published=heard.published.append,
        removed=heard.removed.append,
        progress=heard.progress.append,
        cancelled=cancelled,
        overwrite=overwrite,
        **given,
    )
