"""Which FUSE binding is used, and what both need to run one Operations class.

mfusepy on libfuse 3 where it is installed: requests of 1 MiB, readdirplus. Else fusepy on
libfuse 2, which always works. The bindings' own handling of exceptions is replaced by `guard`:
fusepy turns an OSError without errno into garbage, even into success with no bytes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import os
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from zarrfuse.errors import ExitCode, UserError
from zarrfuse.mount.guard import guard
from zarrfuse.mount.operations import Operations
from zarrfuse.mount.stat import StatLayout
from zarrfuse.mount.threads import ThreadStates

#: RENAME_EXCHANGE and RENAME_WHITEOUT of rename(2), which a bucket cannot do.
_REFUSED_RENAME_FLAGS = 2 | 4
_MAX_THREADS = 64
_READDIR_PLUS = 1
_FILL_DIR_PLUS = 2


@dataclass(frozen=True, slots=True)
class KernelMount:
    """What the kernel is told of a mount. Names and sizes are kept for `kept_s`, an absence for
    `absence_s`."""

    source: str
    allow_other: bool
    read_only: bool
    non_empty: bool
    kept_s: float
    absence_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Binding:
    """A loaded binding; `libfuse` is the major version it runs on."""

    name: str
    libfuse: int
    module: ModuleType

    def caller(self) -> int:
        """The thread id of the program whose request is being answered; 0 if unknown."""
        return int(self.module.fuse_get_context()[2])

    def device(self) -> int:
        """The mount's /dev/fuse, which is libfuse's own. To be asked in an operation."""
        library = self.module._libfuse
        library.fuse_get_session.restype = ctypes.c_void_p
        session = library.fuse_get_session(
            ctypes.c_void_p(library.fuse_get_context().contents.fuse)
        )
        if self.libfuse == 2:
            library.fuse_session_next_chan.restype = ctypes.c_void_p
            channel = library.fuse_session_next_chan(ctypes.c_void_p(session), None)
            return int(library.fuse_chan_fd(ctypes.c_void_p(channel)))
        return int(library.fuse_session_fd(ctypes.c_void_p(session)))

    def options(self, mount: KernelMount) -> dict[str, Any]:
        """Mount options in this libfuse's words."""
        common: dict[str, Any] = {
            "foreground": True,
            # A comma would end the option, and /etc/mtab parts its fields by spaces.
            "fsname": re.sub(r"[\s,\\]", "_", mount.source),
            "subtype": "zarrfuse",
            # Without it the kernel checks no mode at all: any user could read and write.
            "default_permissions": True,
            "allow_other": mount.allow_other,
            "ro": mount.read_only,
            "attr_timeout": mount.kept_s,
            "entry_timeout": mount.kept_s,
            "negative_timeout": mount.absence_s,
        }
        if self.libfuse == 2:
            common |= {"big_writes": True, "atomic_o_trunc": True, "nonempty": mount.non_empty}
        elif _has_lasting_threads(self.module):
            # Its default is 10; a reader with six requests in flight and a writer need more. None
            # ends while the mount lives, because `ThreadStates` would lose what it keeps of it.
            common |= {"max_threads": _MAX_THREADS, "max_idle_threads": _MAX_THREADS}
        return common

    def run(self, operations: Operations, mountpoint: str, options: dict[str, Any]) -> None:
        """Mounts and serves until unmounted. RuntimeError if libfuse could not mount."""
        if self.libfuse == 2:
            _libfuse2_class(self.module)(_Callable(operations), mountpoint, raw_fi=True, **options)
        else:
            _libfuse3_class(self.module)(operations, mountpoint, raw_fi=True, **options)


def load_binding(name: str) -> Binding:
    """`auto` takes mfusepy if it and libfuse 3 are there. UserError says what to install."""
    if name in ("auto", "mfusepy") and ctypes.util.find_library("fuse3"):
        os.environ["FUSE_LIBRARY_NAME"] = "fuse3"  # mfusepy prefers libfuse 2 where both are
        try:
            return Binding("mfusepy", 3, importlib.import_module("mfusepy"))
        except ImportError:
            if name == "mfusepy":
                raise UserError(
                    "mfusepy is not installed: pip install mfusepy", ExitCode.CONFIG
                ) from None
    if name == "mfusepy":
        raise UserError("libfuse 3 is not installed: apt install fuse3", ExitCode.CONFIG)
    if not ctypes.util.find_library("fuse"):
        raise UserError(
            "libfuse is not installed: apt install fuse3 (with pip install mfusepy) or libfuse2",
            ExitCode.CONFIG,
        )
    return Binding("fusepy", 2, importlib.import_module("fuse"))


class _Callable:
    """fusepy calls its operations object with the operation's name; mfusepy looks methods up."""

    use_ns = True

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    def __call__(self, name: str, *args: Any) -> Any:
        return getattr(self._operations, name)(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operations, name)


def _libfuse2_class(module: ModuleType) -> Any:
    layout = StatLayout(module.c_stat)

    class Fuse2(module.FUSE):  # type: ignore[misc, name-defined]
        _wrapper = staticmethod(guard)

        def fgetattr(self, path: bytes | None, buf: Any, fip: Any) -> int:
            stat = self.operations("getattr", _decoded(path), fip.contents if fip else None)
            ctypes.memmove(buf, layout.pack(stat), layout.size)
            return 0

        def readdir(self, path: bytes, buf: Any, filler: Any, offset: int, fip: Any) -> int:
            row = module.c_stat()
            for name, mode in self.operations("entry_types", path.decode(), fip.contents.fh):
                row.st_mode = mode
                if filler(buf, _encoded(name), row, 0) != 0:
                    break
            return 0

    return Fuse2


def _libfuse3_class(module: ModuleType) -> Any:
    layout = StatLayout(module.c_stat)
    states = ThreadStates()

    def guard_and_keep(operation: Any, *args: Any) -> int:
        states.keep()
        return guard(operation, *args)

    class Fuse3(module.FUSE):  # type: ignore[misc, name-defined]
        _wrapper = staticmethod(guard_and_keep if _has_lasting_threads(module) else guard)

        def fgetattr(self, path: bytes | None, buf: Any, fip: Any) -> int:
            stat = self.operations.getattr(_decoded(path), fip.contents if fip else None)
            ctypes.memmove(buf, layout.pack(stat), layout.size)
            return 0

        def readdir_fuse_3(
            self, path: bytes, buf: Any, filler: Any, offset: int, fip: Any, flags: int
        ) -> int:
            """Answers sizes and times with the names (readdirplus): no look-up per name follows."""
            plus = _FILL_DIR_PLUS if flags & _READDIR_PLUS else 0
            content = bytearray(layout.size)
            row = module.c_stat.from_buffer(content)
            listed = self.operations.entry_stats(
                path.decode(), fip.contents.fh, offset, told=plus != 0
            )
            for number, (name, stat) in enumerate(listed, offset + 1):
                content[:] = layout.pack(stat)
                if filler(buf, _encoded(name), row, number, plus) != 0:
                    break
            return 0

        def truncate_fuse_3(self, path: bytes, length: int, fip: Any) -> int:
            return int(
                self.operations.truncate(path.decode(), length, fip.contents if fip else None) or 0
            )

        def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
            # RENAME_NOREPLACE needs nothing: the kernel has found the target absent.
            self.operations.rename(old.decode(), new.decode(), flags & _REFUSED_RENAME_FLAGS)
            return 0

    return Fuse3


def _has_lasting_threads(module: ModuleType) -> bool:
    """Whether this libfuse 3 can be told how many threads to keep."""
    return bool(module.fuse_version_minor >= 12)


def _decoded(path: bytes | None) -> str | None:
    return None if path is None else path.decode()


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
