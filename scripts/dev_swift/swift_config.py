"""Swift's configuration files as text: pure, nothing is read or written here.

Every value that differs from Swift's default has its reason beside it. The pipelines are those of
the Swift documentation without what needs other services (memcached, the background daemons).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dev_swift.layout import REGION

BACKENDS = ("account", "container", "object")

# A fixed hash suffix: the data of a directory must be found again by the next start.
SWIFT_CONF = """\
[swift-hash]
swift_hash_path_prefix = dev
swift_hash_path_suffix = swift

[storage-policy:0]
name = Policy-0
default = yes
"""

_LOG = "log_level = WARNING\nlog_custom_handlers = dev_swift.swift_log.to_standard_error\n"

# Two busy cores may keep a back end waiting for seconds; nothing here repairs what timed out.
_TIMEOUTS = "node_timeout = 60\nconn_timeout = 20\nclient_timeout = 120\n"

_BIG_CHUNKS = 1 << 20

TEMPAUTH_USERS = """\
user_test_tester = testing .admin
user_test_guest = guesting
user_other_reader = reading .reseller_reader
"""

_HEAD = ("catch_errors", "gatekeeper", "healthcheck", "cache", "listing_formats", "bulk")
_TAIL = ("copy", "slo", "dlo", "versioned_writes", "symlink")
_TEMPAUTH = ("s3api", "tempauth")
# authtoken passes S3 requests on (delay_auth_decision); s3token gives them the identity that
# keystoneauth then judges.
_KEYSTONE = ("authtoken", "s3api", "s3token", "keystoneauth")


@dataclass(frozen=True)
class KeystoneService:
    """How Swift reaches Keystone, and as whom."""

    auth_url: str
    username: str
    password: str
    project_name: str


def backend_conf(server: str, etc: Path, devices: Path) -> str:
    """The configuration of the account, container or object server."""
    conf = f"[DEFAULT]\nswift_dir = {etc}\ndevices = {devices}\nmount_check = false\n{_LOG}"
    # Not every file system has it, and nothing is gained by it here.
    conf += "disable_fallocate = true\n" + _TIMEOUTS
    if server == "object":
        # After it the listing would be updated by a daemon that does not run: never.
        conf += "container_update_timeout = 60\n"
    conf += f"\n[pipeline:main]\npipeline = {server}-server\n"
    conf += f"\n[app:{server}-server]\nuse = egg:swift#{server}\n"
    if server == "object":
        conf += f"network_chunk_size = {_BIG_CHUNKS}\ndisk_chunk_size = {_BIG_CHUNKS}\n"
    return conf


def proxy_conf(etc: Path, keystone: KeystoneService | None) -> str:
    """The configuration of the proxy: with tempauth, or with Keystone."""
    filters = _HEAD + (_TEMPAUTH if keystone is None else _KEYSTONE) + _TAIL
    settings = _filter_settings(keystone)
    conf = f"[DEFAULT]\nswift_dir = {etc}\n{_LOG}{_TIMEOUTS}"
    # s3api looks for the name `proxy-server` in the pipeline.
    conf += f"\n[pipeline:main]\npipeline = {' '.join(filters)} proxy-server\n"
    conf += "\n[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n"
    conf += "recoverable_node_timeout = 60\n"
    # One refused request (ENOSPC of an extended attribute, say) must not shut the only back end
    # out for a minute.
    conf += "error_suppression_interval = 1\nerror_suppression_limit = 1000000\n"
    conf += f"object_chunk_size = {_BIG_CHUNKS}\nclient_chunk_size = {_BIG_CHUNKS}\n"
    for name in filters:
        conf += f"\n[filter:{name}]\n" + settings.get(name, f"use = egg:swift#{name}\n")
    return conf


def _filter_settings(keystone: KeystoneService | None) -> Mapping[str, str]:
    settings = {
        "cache": "paste.filter_factory = dev_swift.memory_cache:filter_factory\n",
        # The users' bucket is called my_bucket, which no DNS name may be.
        "s3api": f"use = egg:swift#s3api\nlocation = {REGION}\n"
        "dns_compliant_bucket_names = false\n",
        "tempauth": f"use = egg:swift#tempauth\n{TEMPAUTH_USERS}",
        "versioned_writes": "use = egg:swift#versioned_writes\n"
        "allow_versioned_writes = true\nallow_object_versioning = true\n",
    }
    if keystone is not None:
        settings |= _keystone_settings(keystone)
    return settings


def _keystone_settings(keystone: KeystoneService) -> Mapping[str, str]:
    service = (
        f"auth_type = password\nauth_url = {keystone.auth_url}\n"
        f"username = {keystone.username}\npassword = {keystone.password}\n"
        f"project_name = {keystone.project_name}\n"
        "user_domain_name = Default\nproject_domain_name = Default\n"
    )
    return {
        "authtoken": "paste.filter_factory = keystonemiddleware.auth_token:filter_factory\n"
        f"www_authenticate_uri = {keystone.auth_url}\n{service}"
        "delay_auth_decision = true\ncache = swift.cache\ninclude_service_catalog = false\n"
        f"region_name = {REGION}\n",
        # The secret is asked for once a minute and not with every request, as large sites do.
        "s3token": f"use = egg:swift#s3token\nauth_uri = {keystone.auth_url}\n{service}"
        f"region_name = {REGION}\nsecret_cache_duration = 60\n",
        "keystoneauth": "use = egg:swift#keystoneauth\noperator_roles = admin, member\n",
    }
