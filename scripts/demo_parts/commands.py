"""Run what a user would type, from the checkout, in the demo's own environment, and show it.

The environment holds none of the user's own keys, proxies or zarrfuse settings; caches and state
go where the demo's other data goes.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path

from demo_parts.errors import DemoError
from demo_parts.terminal import Terminal

REPOSITORY = Path(__file__).resolve().parents[2]
#: No command of the demo takes a tenth of it; a mount that hangs must not hang the demo.
DEADLINE_S = 120.0

_FOREIGN = re.compile(r"(AWS|OS|ZARRFUSE|PYTHON)_?.*|MPL.*|.*_proxy", re.IGNORECASE)
# Where dev-swift's virtual environments are is a fact of the machine, not a setting.
_KEPT = {"ZARRFUSE_SWIFT_VENV", "ZARRFUSE_KEYSTONE_VENV"}


class Shell:
    """Runs commands one after the other. What `source` would set is added with `source`."""

    def __init__(self, terminal: Terminal, home: Path) -> None:
        self._terminal = terminal
        self._env = {
            name: value
            for name, value in os.environ.items()
            if name in _KEPT or not _FOREIGN.fullmatch(name)
        }
        scripts = REPOSITORY / ".venv" / "bin"
        self._env |= {
            "PATH": f"{scripts}{os.pathsep}{self._env.get('PATH', os.defpath)}",
            "XDG_CACHE_HOME": str(home / "cache"),
            "XDG_STATE_HOME": str(home / "state"),
            # Else these two write into the user's home.
            "MPLCONFIGDIR": str(home / "cache" / "matplotlib"),
            "DASK_CONFIG": str(home / "cache" / "dask"),
            # The keys come from Swift's env file alone: these two do not exist.
            "AWS_CONFIG_FILE": str(home / "no-aws-config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(home / "no-aws-credentials"),
        }

    def source(self, path: Path) -> None:
        """Take the `export NAME=value` lines of a file into the environment."""
        self._terminal.command(shlex.join(["source", str(path)]))
        words = shlex.split(path.read_text(encoding="utf-8"), comments=True)
        self._env |= dict(word.split("=", 1) for word in words if word != "export")

    def run(self, *words: str | Path, cure: str, own_session: bool = False) -> None:
        """Show a command, run it, show what it said.

        `own_session` keeps a ^C of the terminal from it. DemoError with `cure` if it fails.
        """
        command = [str(word) for word in words]
        self._terminal.command(shlex.join(command))
        done = self.quietly(*command, own_session=own_session)
        self._terminal.output(done.stdout.splitlines())
        if done.returncode != 0:
            raise DemoError(f"{shlex.join(command[:2])} failed (code {done.returncode}); {cure}")

    def quietly(
        self, *words: str | Path, own_session: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run it and show nothing; both of its outputs are in `stdout`."""
        try:
            return subprocess.run(
                [str(word) for word in words],
                cwd=REPOSITORY,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=DEADLINE_S,
                check=False,
                start_new_session=own_session,
            )
        except subprocess.TimeoutExpired:
            raise DemoError(
                f"{words[0]} did not end within {DEADLINE_S:g} s; is the machine very busy? "
                "Try again"
            ) from None
        except FileNotFoundError:
            raise DemoError(f"{words[0]} is not installed; install it and try again") from None
