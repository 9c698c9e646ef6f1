"""Keys, region and endpoint as the AWS tools keep them: environment, credentials file, config file.

Reads those three and nothing else: no instance metadata service, no bucket, no helper process. A
secret leaves this module only as a field of `Credentials`, whose repr hides it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from botocore.configloader import load_config, raw_config_parse
from botocore.exceptions import ConfigNotFound, ConfigParseError

from zarrfuse.errors import ExitCode, UserError

DEFAULT_PROFILE = "default"


@dataclass(frozen=True, slots=True)
class Credentials:
    """A pair of EC2 (S3) keys, with the session token where there is one."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class AwsSettings:
    """What the environment and the files say of one profile; None where they say nothing."""

    credentials: Credentials | None
    region: str | None
    endpoint_url: str | None
    ca_bundle: Path | None
    looked_at: tuple[str, ...] = ()


def find_settings(profile: str | None, environ: Mapping[str, str]) -> AwsSettings:
    """Everything the AWS settings say; a profile named by the caller stands above the variables.

    UserError where a profile that was named does not exist, or a file cannot be read.
    """
    files = _Files.of(environ)
    name = profile or environ.get("AWS_PROFILE") or DEFAULT_PROFILE
    section = files.profile(name, required=name != DEFAULT_PROFILE)
    found = None if profile else _credentials_in(environ)
    ca_bundle = environ.get("AWS_CA_BUNDLE") or section.get("ca_bundle")
    return AwsSettings(
        credentials=found or _credentials_of(section, f"profile {name!r} of {files.where}"),
        region=_first(section.get("region") if profile else None, _region_in(environ), section),
        endpoint_url=environ.get("AWS_ENDPOINT_URL_S3")
        or environ.get("AWS_ENDPOINT_URL")
        or files.s3_service(section).get("endpoint_url")
        or section.get("endpoint_url"),
        ca_bundle=Path(ca_bundle).expanduser() if ca_bundle else None,
        looked_at=(*(() if profile else ("AWS_ACCESS_KEY_ID",)), *files.shown(name)),
    )


def find_credentials(profile: str | None, environ: Mapping[str, str]) -> Credentials:
    """The keys to sign with. UserError says where they were looked for, and what to do."""
    settings = find_settings(profile, environ)
    if settings.credentials is None:
        raise no_credentials(settings)
    return settings.credentials


def no_credentials(settings: AwsSettings) -> UserError:
    """The one line for a person who has no keys."""
    places = ", ".join(settings.looked_at)
    return UserError(
        f"no S3 keys found (looked at {places}): put aws_access_key_id and aws_secret_access_key "
        "there, or pass --profile, or --anonymous for a public bucket",
        ExitCode.CONFIG,
    )


@dataclass(frozen=True, slots=True)
class _Files:
    """The two files, parsed: profiles by name, and the services sections of the config file."""

    credentials_path: Path
    config_path: Path
    credentials: Mapping[str, Mapping[str, Any]]
    profiles: Mapping[str, Mapping[str, Any]]
    services: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> _Files:
        credentials_path = _path(environ, "AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")
        config_path = _path(environ, "AWS_CONFIG_FILE", ".aws/config")
        config = _read(config_path, load_config)
        return cls(
            credentials_path,
            config_path,
            credentials=_read(credentials_path, raw_config_parse),
            profiles=config.get("profiles", {}),
            services=config.get("services", {}),
        )

    def profile(self, name: str, *, required: bool) -> Mapping[str, Any]:
        """Both files' sections of that name as one; the credentials file stands above."""
        if name in self.credentials or name in self.profiles:
            return {**self.profiles.get(name, {}), **self.credentials.get(name, {})}
        if required:
            known = ", ".join(sorted({*self.credentials, *self.profiles})) or "none"
            raise UserError(
                f"no profile {name!r} in {self.where} (there: {known})", ExitCode.CONFIG
            )
        return {}

    def s3_service(self, section: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a profile says of S3: its services section, or its own `s3 =` block."""
        own, service = section.get("s3"), self.services.get(str(section.get("services", "")), {})
        part = service.get("s3") or own
        return part if isinstance(part, Mapping) else {}

    @property
    def where(self) -> str:
        return f"{self.credentials_path} and {self.config_path}"

    def shown(self, name: str) -> tuple[str, ...]:
        return (f"[{name}] in {self.credentials_path}", str(self.config_path))


def _path(environ: Mapping[str, str], variable: str, default: str) -> Path:
    if variable in environ:
        return Path(environ[variable]).expanduser()
    home = environ.get("HOME")
    return (Path(home) if home else Path.home()) / default


def _read(path: Path, parse: Any) -> Mapping[str, Mapping[str, Any]]:
    """A parsed file; empty where there is none. /dev/null is the usual way to say "none"."""
    if not path.exists() or path.is_char_device():
        return {}
    try:
        parsed: Mapping[str, Mapping[str, Any]] = parse(str(path))
    except ConfigParseError:  # its text quotes the line, which may be a secret
        raise UserError(f"{path} is not in the form of an AWS file", ExitCode.CONFIG) from None
    except (ConfigNotFound, OSError) as error:
        raise UserError(f"cannot read {path}: {error}", ExitCode.CONFIG) from None
    return parsed


def _credentials_in(environ: Mapping[str, str]) -> Credentials | None:
    access, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    token = environ.get("AWS_SESSION_TOKEN") or None
    return _pair(access, secret, token, "the environment", "AWS_{}")


def _credentials_of(section: Mapping[str, Any], where: str) -> Credentials | None:
    access, secret = section.get("aws_access_key_id"), section.get("aws_secret_access_key")
    return _pair(access, secret, section.get("aws_session_token"), where, "aws_{}")


def _pair(
    access: str | None, secret: str | None, token: str | None, where: str, form: str
) -> Credentials | None:
    """Both keys or neither: half a pair is a mistake to be told."""
    if not access and not secret:
        return None
    if access and secret:
        return Credentials(access, secret, token)
    missing = form.format("secret_access_key" if access else "access_key_id")
    missing = missing.upper() if form.startswith("AWS") else missing
    raise UserError(f"{where} has half a pair of S3 keys: {missing} is missing", ExitCode.CONFIG)


def _region_in(environ: Mapping[str, str]) -> str | None:
    return environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None


def _first(named: Any, variable: str | None, section: Mapping[str, Any]) -> str | None:
    found = named or variable or section.get("region")
    return str(found) if found else None
