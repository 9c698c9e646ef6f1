"""Options that several commands share, and the meaning of `-o`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from zarrfuse.errors import ExitCode, UserError

F = TypeVar("F", bound=Callable[..., Any])


def bucket_options(command: F) -> F:
    """How to reach a bucket: where, and as whom."""
    for option in reversed(
        (
            click.option("--endpoint-url", metavar="URL", help="S3 endpoint [AWS_ENDPOINT_URL]."),
            click.option("--region", metavar="NAME", help="Signing region [AWS_REGION]."),
            click.option("--profile", metavar="NAME", help="Profile in ~/.aws [AWS_PROFILE]."),
            click.option("--anonymous", is_flag=True, help="Unsigned requests (RGW, AWS)."),
        )
    ):
        command = option(command)
    return command


@dataclass(slots=True)
class MountWords:
    """What `-o` said, in the words of mount(8); `settings` are `section.key=value`."""

    read_only: bool = False
    allow_other: bool = False
    non_empty: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None
    settings: list[str] = field(default_factory=list)


def mount_words(options: Iterable[str]) -> MountWords:
    """Takes `-o ro,allow_other,uid=1000,metadata.ttl_s=5` apart. UserError for an unknown word."""
    words = MountWords()
    for option in (word for text in options for word in text.split(",") if word):
        name, _, value = option.partition("=")
        match name:
            case "ro":
                words.read_only = True
            case "rw" | "default_permissions":
                pass  # what is done anyway
            case "allow_other":
                words.allow_other = True
            case "nonempty":
                words.non_empty = True
            case "uid":
                words.uid = _number(option, value, 10)
            case "gid":
                words.gid = _number(option, value, 10)
            case "umask":
                words.umask = _number(option, value, 8)
            case _ if "." in name:
                words.settings.append(option)
            case _:
                raise UserError(
                    f"-o {option}: unknown; known are ro, rw, allow_other, nonempty, uid=, gid=, "
                    "umask= and section.key=value",
                    ExitCode.USAGE,
                )
    return words


def octal(text: str) -> int:
    """A umask as people write it: 022."""
    return _number(f"umask {text}", text, 8)


def _number(what: str, text: str, base: int) -> int:
    try:
        return int(text, base)
    except ValueError:
        kind = "an octal number like 022" if base == 8 else "a number"
        raise UserError(f"{what}: must be {kind}", ExitCode.USAGE) from None
