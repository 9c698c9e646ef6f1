"""`zarrfuse mount`: makes a bucket a directory, and returns when it is one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import click
from pydantic import ValidationError

from zarrfuse.cli.logs import LEVELS, set_up_logs
from zarrfuse.cli.options import bucket_options, mount_words, octal
from zarrfuse.cli.word import Listener, Word, read_word
from zarrfuse.config import Config
from zarrfuse.daemon import Daemon, MountRequest, log_path
from zarrfuse.errors import ExitCode, UserError, ZarrfuseError, user_error_of
from zarrfuse.mount.heap import bound_heap
from zarrfuse.mount.life import ignore_hangups


@click.command()
@click.argument("source")
@click.argument("mountpoint", type=click.Path(path_type=Path))
@bucket_options
@click.option("--read-only", is_flag=True, help="No writes, no drop box.")
@click.option(
    "--immutable",
    is_flag=True,
    help="Read-only, and nobody else changes it either: the kernel keeps everything for good, and "
    "a file in its memory is read without asking. A change is not seen, or as a mixture.",
)
@click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    help="[$XDG_CACHE_HOME/zarrfuse, ~/.cache/zarrfuse]",
)
@click.option("--cache-size", metavar="SIZE", help="E.g. 20GB; 0 for none. [10 % of the disk]")
@click.option("--uid", type=int, help="Owner shown for all files. [you]")
@click.option("--gid", type=int, help="Group shown for all files. [yours]")
@click.option("--umask", metavar="OCTAL", help="Modes taken away from 0777 and 0666. [022]")
@click.option("--allow-other", is_flag=True, help="Let other users in, as the modes say.")
@click.option("--foreground", "-f", is_flag=True, help="Stay; log to the terminal.")
@click.option("-o", "options", multiple=True, metavar="OPT,...", help="ro, uid=, section.key=value")
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
@click.option("--ready-fd", type=int, hidden=True, help="Where to say that the mount is live.")
def mount(source: str, mountpoint: Path, ready_fd: int | None, **given: Any) -> int:
    """Mount SOURCE, a bucket, as the directory MOUNTPOINT.

    \b
    SOURCE is s3://bucket, s3://bucket/prefix, or any URL that fsspec opens
    (file:///data). Keys come from the profile, the AWS_... variables,
    ~/.aws/credentials or ~/.aws/config.

    \b
    zarrfuse mount s3://my_bucket /mnt/ocean
    zarrfuse mount s3://my_bucket/cmip6 /mnt/cmip6 --read-only --cache-size 50GB
    zarrfuse mount s3://my_archive /mnt/era5 --immutable
    zarrfuse mount s3://my_bucket /mnt/ocean -o ingest.name=drop,metadata.ttl_s=10

    Returns when the directory can be used; with --foreground when it is unmounted.
    """
    if not given["foreground"] and ready_fd is None:
        return _start_in_background(source, mountpoint)
    set_up_logs(given["log_level"])
    listener = None if ready_fd is None else Listener(ready_fd)
    return _serve(source, mountpoint, listener, given)


def _serve(
    source: str, mountpoint: Path, listener: Listener | None, given: dict[str, Any]
) -> NoReturn:
    """The daemon itself. What keeps the mount from going live goes to the listener as well."""
    ignore_hangups()
    bound_heap()
    try:
        request = _request(source, mountpoint, given)
        os.chdir("/")  # else the directory it was started in could not be unmounted
        daemon = Daemon(request, os.environ)

        def ready() -> None:
            if listener is not None:
                listener.say(Word(pid=os.getpid(), notes=daemon.notes()))
            else:
                click.echo(f"{source} is mounted on {request.mountpoint}", err=True)

        code = daemon.run(ready)
    except ZarrfuseError as error:
        told = user_error_of(error, f"cannot mount {source}")
        if listener is not None:
            listener.say(Word(error=str(told), code=told.exit_code))
        raise told from None
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Ends the process of a mount that is gone, with all that it had to keep written and closed.

    The interpreter would wait for every thread of a pool: what is being fetched ahead, for nobody
    any more, may take minutes where the server is slow.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _request(source: str, mountpoint: Path, given: dict[str, Any]) -> MountRequest:
    words = mount_words(given["options"])
    umask = octal(given["umask"]) if given["umask"] is not None else words.umask
    try:
        config = (
            Config()
            .with_options(words.settings)
            .override("cache", directory=_absolute(given["cache_dir"]), size=given["cache_size"])
            .override(
                "mount",
                read_only=given["read_only"] or words.read_only or None,
                immutable=given["immutable"] or None,
                allow_other=given["allow_other"] or words.allow_other or None,
                uid=given["uid"] if given["uid"] is not None else words.uid,
                gid=given["gid"] if given["gid"] is not None else words.gid,
                umask=umask,
            )
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{name}: {first['msg']}", ExitCode.USAGE) from None
    return MountRequest(
        source=source,
        mountpoint=Path(os.path.abspath(mountpoint)),  # noqa: PTH100 - links stay as they are
        endpoint_url=given["endpoint_url"],
        region=given["region"],
        profile=given["profile"],
        anonymous=given["anonymous"],
        non_empty=words.non_empty,
        config=config,
    )


def _start_in_background(source: str, mountpoint: Path) -> int:
    """Starts this same command as a process of its own session and waits for its word.

    A new process, not a fork: the object client's threads do not survive one.
    """
    log = log_path(mountpoint)
    reading, writing = os.pipe()
    try:
        log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("ab") as output:
            log.chmod(0o600)
            child = subprocess.Popen(
                [sys.executable, "-m", "zarrfuse", *sys.argv[1:], "--ready-fd", str(writing)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(writing,),
                start_new_session=True,
            )
    except OSError as error:
        raise UserError(f"cannot write the log {log}: {error.strerror}", ExitCode.CONFIG) from None
    finally:
        os.close(writing)
    try:
        word = read_word(reading)
    except BaseException:  # Ctrl-C: who asked for the mount does not want it any more
        child.terminate()
        raise
    return _told(word, child, f"{source} is mounted on {mountpoint}", log)


def _told(word: Word | None, child: subprocess.Popen[bytes], done: str, log: Path) -> int:
    """What the daemon's word means to the user. UserError if there is no mount."""
    if word is None:
        raise UserError(
            f"the daemon ended (code {child.wait()}) before the mount was live; see {log}",
            ExitCode.SOFTWARE,
        )
    if word.error:
        child.wait()
        raise UserError(word.error, ExitCode(word.code))
    for note in word.notes:
        click.echo(note)
    click.echo(f"{done} (pid {word.pid}, log {log})")
    return ExitCode.OK


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else Path(os.path.abspath(path))  # noqa: PTH100
