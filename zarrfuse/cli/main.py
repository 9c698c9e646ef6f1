"""`zarrfuse`: finds the command's own file; makes every error one line and an exit code."""

from __future__ import annotations

import importlib
import sys

import click

from zarrfuse import __version__
from zarrfuse.errors import ExitCode, UserError, ZarrfuseError, user_error_of

#: Command name to the module that holds it; a module is loaded when its command is called, so that
#: `zarrfuse status` does not wait for object clients.
_COMMANDS = {
    "mount": "zarrfuse.cli.mount",
    "umount": "zarrfuse.cli.umount",
    "status": "zarrfuse.cli.status",
    "convert": "zarrfuse.cli.convert",
    "warm": "zarrfuse.cli.warm",
    "cache": "zarrfuse.cli.cache",
}


class _LazyGroup(click.Group):
    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(importlib.import_module(_COMMANDS[name]), name)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zarrfuse")
def cli() -> None:
    """Mount an OpenStack Swift bucket as a directory, and drop NetCDF files into it as Zarr.

    \b
    zarrfuse mount s3://my_bucket /mnt/ocean      make the bucket a directory
    cp sst.nc /mnt/ocean/to-zarr/                 s3://my_bucket/sst.zarr appears
    zarrfuse status                               what is mounted, and how it goes
    zarrfuse warm /mnt/ocean/sst.zarr             fetch it into the local cache
    zarrfuse umount /mnt/ocean                    returns when every byte is in the bucket
    """


def main() -> None:
    """Never lets a traceback out for what a user can cause."""
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        _say(error.format_message())
        sys.exit(ExitCode.USAGE)
    except UserError as error:
        _say(str(error))
        sys.exit(error.exit_code)
    except ZarrfuseError as error:
        told = user_error_of(error, "failed")
        _say(str(told))
        sys.exit(told.exit_code)
    sys.exit(code if isinstance(code, int) else ExitCode.OK)


def _say(message: str) -> None:
    click.echo(f"zarrfuse: {message}", err=True)
