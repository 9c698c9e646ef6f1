"""Fill a new Keystone: its database and keys by keystone-manage, all else through its own API.

Every step asks first whether the thing is there, so that a later `up` on the same directory, with
other ports, mends what changed and keeps the rest. Standard library only.
"""

import getpass
import grp
import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev_swift import keystone_config as names
from dev_swift.errors import DevSwiftError
from dev_swift.layout import REGION, Layout, write_private

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_TIMEOUT_S = 30.0

Json = dict[str, Any]


@dataclass(frozen=True)
class Ec2Keys:
    access: str
    secret: str


def initialise(layout: Layout, python: Path) -> None:
    """Create the database, the keys and the administrator; nothing where it is done already."""
    directory = layout.keystone
    done = directory / "initialised"
    if done.exists():
        return
    directory.mkdir(mode=0o700, exist_ok=True)
    write_private(layout.keystone_conf, names.keystone_conf(directory))
    manage = [str(python.with_name("keystone-manage")), "--config-file", str(layout.keystone_conf)]
    # keystone-manage insists on names when root runs it.
    group = grp.getgrgid(os.getgid()).gr_name
    owner = ["--keystone-user", getpass.getuser(), "--keystone-group", group]
    log = layout.log("keystone")
    # They depend on nothing of each other and each takes seconds to start.
    _run_all([[*manage, "db_sync"], [*manage, "fernet_setup", *owner]], log)
    _run_all([[*manage, "credential_setup", *owner], [*manage, *_bootstrap()]], log)
    done.touch()


def populate(auth_url: str, swift_url: str) -> Ec2Keys:
    """Make users, roles and catalogue right; returns the EC2 keys of the user."""
    admin = _Api.login(auth_url, names.ADMIN, names.ADMIN_PASSWORD, names.ADMIN)
    admin.ensure_endpoints("keystone", "identity", auth_url)
    admin.ensure_endpoints("swift", "object-store", f"{swift_url}/v1/AUTH_%(tenant_id)s")
    # Swift's own user looks secrets up for everyone, which an administrator may.
    admin.ensure_member(names.SERVICE, names.SERVICE_PASSWORD, names.SERVICE_PROJECT, "admin")
    admin.ensure_member(names.USER, names.PASSWORD, names.PROJECT, "member")
    user = _Api.login(auth_url, names.USER, names.PASSWORD, names.PROJECT)
    return user.ensure_ec2_keys()


def _bootstrap() -> list[str]:
    return [
        "bootstrap",
        f"--bootstrap-username={names.ADMIN}",
        f"--bootstrap-password={names.ADMIN_PASSWORD}",
        f"--bootstrap-project-name={names.ADMIN}",
        f"--bootstrap-region-id={REGION}",
    ]


def _run_all(commands: list[list[str]], log: Path) -> None:
    """Run the commands side by side; their output goes into the log."""
    with log.open("ab") as stream:
        running = [
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
            for command in commands
        ]
        codes = [process.wait() for process in running]
    for command, code in zip(commands, codes, strict=True):
        if code != 0:
            what = " ".join(word for word in command[3:] if not word.startswith("-"))
            raise DevSwiftError(f"keystone-manage {what} failed with {code} (log: {log})")


@dataclass(frozen=True)
class _Api:
    """Keystone's version 3 API with one token."""

    url: str
    token: str
    user_id: str
    project_id: str

    @classmethod
    def login(cls, auth_url: str, user: str, password: str, project: str) -> "_Api":
        domain = {"name": "Default"}
        identity = {
            "methods": ["password"],
            "password": {"user": {"name": user, "domain": domain, "password": password}},
        }
        scope = {"project": {"name": project, "domain": domain}}
        body = {"auth": {"identity": identity, "scope": scope}}
        answer, headers = _call("POST", f"{auth_url}/auth/tokens", {}, body)
        token = answer["token"]
        return cls(
            auth_url, headers["X-Subject-Token"], token["user"]["id"], token["project"]["id"]
        )

    def ensure_endpoints(self, name: str, kind: str, url: str) -> None:
        """A service with public and internal endpoints (Swift's filters use the internal one)."""
        service = self._ensure("service", {"type": kind}, {"name": name, "type": kind})
        for interface in ("public", "internal"):
            which = {"service_id": service["id"], "interface": interface, "region_id": REGION}
            endpoint = self._ensure("endpoint", which, which | {"url": url})
            if endpoint["url"] != url:
                self._call("PATCH", f"/endpoints/{endpoint['id']}", {"endpoint": {"url": url}})

    def ensure_member(self, user: str, password: str, project: str, role: str) -> None:
        """A user with a role in a project."""
        project_id = self._ensure("project", {"name": project}, {"name": project})["id"]
        user_id = self._ensure("user", {"name": user}, {"name": user, "password": password})["id"]
        role_id = self._ensure("role", {"name": role}, {"name": role})["id"]
        self._call("PUT", f"/projects/{project_id}/users/{user_id}/roles/{role_id}")

    def ensure_ec2_keys(self) -> Ec2Keys:
        """The token's owner's keys for its project."""
        path = f"/users/{self.user_id}/credentials/OS-EC2"
        found = self._call("GET", path)["credentials"]
        keys = [each for each in found if each["tenant_id"] == self.project_id]
        if not keys:
            keys = [self._call("POST", path, {"tenant_id": self.project_id})["credential"]]
        return Ec2Keys(keys[0]["access"], keys[0]["secret"])

    def _ensure(self, kind: str, filters: Mapping[str, str], wanted: Json) -> Json:
        """The first `kind` that matches the filters, made when there is none."""
        query = "&".join(f"{name}={value}" for name, value in filters.items())
        found: list[Json] = self._call("GET", f"/{kind}s?{query}")[f"{kind}s"]
        if found:
            return found[0]
        made: Json = self._call("POST", f"/{kind}s", {kind: wanted})[kind]
        return made

    def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        return _call(method, self.url + path, {"X-Auth-Token": self.token}, body)[0]


def _call(
    method: str, url: str, headers: Mapping[str, str], body: Json | None = None
) -> tuple[Json, Mapping[str, str]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, dict(headers), method=method)
    request.add_header("Content-Type", "application/json")
    try:
        with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
            text = answer.read()
            return (json.loads(text) if text else {}), answer.headers
    except urllib.error.HTTPError as error:
        raise DevSwiftError(f"Keystone: {method} {url}: {error.code} {error.read()!r}") from error
    except OSError as error:
        raise DevSwiftError(f"Keystone: {method} {url}: {error}") from error
