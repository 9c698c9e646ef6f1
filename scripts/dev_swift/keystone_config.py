"""Keystone's configuration file as text, and who is who in the cloud it serves: pure."""

from pathlib import Path

ADMIN, SERVICE, USER = "admin", "swift", "tester"
SERVICE_PROJECT, PROJECT = "service", "demo"
# Loopback only, data for the bin: the passwords are no secrets, and a user may type one.
ADMIN_PASSWORD, SERVICE_PASSWORD, PASSWORD = "administering", "serving", "testing"


def keystone_conf(directory: Path) -> str:
    """Everything in one directory: sqlite, fernet keys, no cache, log on standard error."""
    return f"""\
[DEFAULT]
use_stderr = true
default_log_levels = keystone=WARNING,oslo=WARNING,sqlalchemy=WARNING,py.warnings=ERROR

[database]
connection = sqlite:///{directory}/keystone.db

[fernet_tokens]
key_repository = {directory}/fernet-keys

[fernet_receipts]
key_repository = {directory}/fernet-keys

[credential]
key_repository = {directory}/credential-keys

[identity]
# The least bcrypt allows: every token for Swift's own user costs one.
password_hash_rounds = 4

[cache]
# In memory: there is one process. Without it every request reads the catalogue and roles anew.
enabled = true
backend = oslo_cache.dict
"""
