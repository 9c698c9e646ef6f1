"""What the worker takes from itself before it opens a hostile file: memory, time, disk, network.

Limits are set or the worker does not start; the network is given up where the kernel allows it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
import signal

_log = logging.getLogger(__name__)

#: linux/prctl.h, linux/sched.h
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
#: The log is the only file that the worker may write to.
_LOG_BYTES = 1 << 20
#: Secrets and proxies have no business here, also where the worker is started by hand.
_PRIVATE = ("AWS_", "OS_", "HTTP_", "HTTPS_", "http_", "https_")


def confine(memory_bytes: int, cpu_s: int) -> None:
    """Binds this process; call it before anything of the file is read. 0 leaves a limit alone."""
    _drop_environment()
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, _LOG_BYTES)
    if memory_bytes:
        _limit(resource.RLIMIT_AS, memory_bytes)
    if cpu_s:
        _limit(resource.RLIMIT_CPU, cpu_s)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _leave_network(libc)


def _drop_environment() -> None:
    for name in [name for name in os.environ if name.startswith(_PRIVATE)]:
        del os.environ[name]


def _limit(what: int, most: int) -> None:
    """Lowers both limits, never above what they are."""
    _, hard = resource.getrlimit(what)
    value = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (value, value))


def _leave_network(libc: ctypes.CDLL) -> None:
    """An empty network namespace; who is not root needs a user namespace with it."""
    for flags in (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET):
        if libc.unshare(flags) == 0:
            return
    reason = os.strerror(ctypes.get_errno())
    _log.warning("the converter keeps the network: the kernel refuses a namespace (%s)", reason)
