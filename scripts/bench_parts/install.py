"""The Debian packages of the peers and of the delay proxy: installed when they are missing.

Asks apt-get, as root or through sudo, as scripts/setup does. Knows nothing of what they are for.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .errors import BenchError

_LUA_MODULE = "/usr/lib/nginx/modules/ngx_http_lua_module.so"
#: What shows that a package is there: a program, or a file.
_SHOWN_BY: Mapping[str, str] = {
    "fuse3": "fusermount3",
    "nginx-light": "nginx",
    "libnginx-mod-http-lua": _LUA_MODULE,
    "s3fs": "s3fs",
    "rclone": "rclone",
}
_DEADLINE_S = 900.0


def program(name: str) -> str:
    """The path of a program; also one in sbin, which a user's PATH need not have."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if path is None:
        raise BenchError(f"{name} is not installed; install it and try again")
    return path


def ensure_packages() -> list[str]:
    """Install what is missing; the names of what was installed."""
    missing = [package for package, sign in _SHOWN_BY.items() if not _is_there(sign)]
    if missing:
        apt = _apt_get(missing)
        _quietly([*apt, "update"])
        _quietly([*apt, "install", "--no-install-recommends", *missing])
    return missing


def _is_there(sign: str) -> bool:
    if sign.startswith("/"):
        return Path(sign).exists()
    return shutil.which(sign, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") is not None


def _apt_get(missing: list[str]) -> list[str]:
    if shutil.which("apt-get") is None:
        raise BenchError(f"needs {' '.join(missing)}, and there is no apt-get: install by hand")
    root: list[str] = []
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            raise BenchError(f"needs {' '.join(missing)}: run it as root, or install sudo")
        root = ["sudo"]
    options = ["-o", "DPkg::Lock::Timeout=300", "-q", "-y"]
    return [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", *options]


def _quietly(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
