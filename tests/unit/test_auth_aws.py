"""Where keys, region and endpoint are found, and what is said where they are not."""

from pathlib import Path

import pytest

from zarrfuse.auth.aws import Credentials, find_credentials, find_settings
from zarrfuse.errors import ExitCode, UserError

IN_ENVIRON = {"AWS_ACCESS_KEY_ID": "env-id", "AWS_SECRET_ACCESS_KEY": "env-secret"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".aws").mkdir()
    return tmp_path


def write(home: Path, name: str, text: str) -> None:
    (home / ".aws" / name).write_text(text)


def environ_of(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), **more}


CREDENTIALS = """
[default]
aws_access_key_id = file-id
aws_secret_access_key = file-secret

[ocean]
aws_access_key_id = ocean-id
aws_secret_access_key = ocean-secret
aws_session_token = ocean-token
"""


def test_environment(home: Path) -> None:
    write(home, "credentials", CREDENTIALS)
    keys = find_credentials(None, environ_of(home, **IN_ENVIRON, AWS_SESSION_TOKEN="t"))
    assert keys == Credentials("env-id", "env-secret", "t")


def test_dev_null_means_no_file(home: Path) -> None:
    none = {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}
    keys = find_credentials(None, environ_of(home, **IN_ENVIRON, **none))
    assert keys == Credentials("env-id", "env-secret")


def test_credentials_file(home: Path) -> None:
    write(home, "credentials", CREDENTIALS)
    assert find_credentials(None, environ_of(home)) == Credentials("file-id", "file-secret")


def test_config_file_with_keys(home: Path) -> None:
    write(
        home,
        "config",
        "[default]\naws_access_key_id = c-id\naws_secret_access_key = c-secret\n"
        "region = RegionOne\nendpoint_url = https://js2.example.org:8001\n",
    )
    settings = find_settings(None, environ_of(home))
    assert settings.credentials == Credentials("c-id", "c-secret")
    assert (settings.region, settings.endpoint_url) == (
        "RegionOne",
        "https://js2.example.org:8001",
    )


def test_credentials_file_stands_above_config(home: Path) -> None:
    write(home, "credentials", CREDENTIALS)
    write(
        home,
        "config",
        "[default]\naws_access_key_id = c-id\naws_secret_access_key = c\nregion = r\n",
    )
    settings = find_settings(None, environ_of(home))
    assert settings.credentials == Credentials("file-id", "file-secret")
    assert settings.region == "r"


def test_a_named_profile_stands_above_the_variables(home: Path) -> None:
    write(home, "credentials", CREDENTIALS)
    write(home, "config", "[profile ocean]\nregion = here\n")
    environ = environ_of(home, **IN_ENVIRON, AWS_REGION="there")
    settings = find_settings("ocean", environ)
    assert settings.credentials == Credentials("ocean-id", "ocean-secret", "ocean-token")
    assert settings.region == "here"


def test_aws_profile_stands_below_the_variables(home: Path) -> None:
    write(home, "credentials", CREDENTIALS)
    by_variable = find_credentials(None, environ_of(home, AWS_PROFILE="ocean"))
    assert by_variable.access_key == "ocean-id"
    both = find_credentials(None, environ_of(home, AWS_PROFILE="ocean", **IN_ENVIRON))
    assert both.access_key == "env-id"


def test_files_elsewhere(home: Path) -> None:
    elsewhere = home / "elsewhere"
    elsewhere.write_text(CREDENTIALS)
    config = home / "other-config"
    config.write_text("[default]\nregion = far\n")
    settings = find_settings(
        None,
        environ_of(home, AWS_SHARED_CREDENTIALS_FILE=str(elsewhere), AWS_CONFIG_FILE=str(config)),
    )
    assert settings.credentials == Credentials("file-id", "file-secret")
    assert settings.region == "far"


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({"AWS_ENDPOINT_URL_S3": "http://s3", "AWS_ENDPOINT_URL": "http://all"}, "http://s3"),
        ({"AWS_ENDPOINT_URL": "http://all"}, "http://all"),
        ({}, "http://service"),
    ],
)
def test_endpoint(home: Path, variables: dict[str, str], wanted: str) -> None:
    write(
        home,
        "config",
        "[default]\nservices = mine\nendpoint_url = http://general\n"
        "[services mine]\ns3 =\n  endpoint_url = http://service\n",
    )
    assert find_settings(None, environ_of(home, **variables)).endpoint_url == wanted


def test_endpoint_in_an_s3_block_of_the_profile(home: Path) -> None:
    write(home, "config", "[default]\ns3 =\n  endpoint_url = http://block\n")
    assert find_settings(None, environ_of(home)).endpoint_url == "http://block"


def test_no_keys_at_all(home: Path) -> None:
    with pytest.raises(UserError) as caught:
        find_credentials(None, environ_of(home))
    text = str(caught.value)
    assert caught.value.exit_code is ExitCode.CONFIG
    assert "AWS_ACCESS_KEY_ID" in text
    assert str(home / ".aws" / "credentials") in text
    assert str(home / ".aws" / "config") in text
    assert "--profile" in text
    assert "\n" not in text


def test_an_unknown_profile_names_the_known(home: Path) -> None:
    write(home, "credentials", CREDENTIALS)
    write(home, "config", "[profile lake]\nregion = x\n")
    with pytest.raises(UserError, match=r"'pond'.*default, lake, ocean") as caught:
        find_credentials("pond", environ_of(home))
    assert caught.value.exit_code is ExitCode.CONFIG


@pytest.mark.parametrize(
    ("variables", "missing"),
    [
        ({"AWS_ACCESS_KEY_ID": "x"}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_SECRET_ACCESS_KEY": "hidden-value"}, "AWS_ACCESS_KEY_ID"),
    ],
)
def test_half_a_pair(home: Path, variables: dict[str, str], missing: str) -> None:
    with pytest.raises(UserError, match=missing) as caught:
        find_credentials(None, environ_of(home, **variables))
    assert "hidden-value" not in str(caught.value)


def test_a_broken_file_is_told_without_its_lines(home: Path) -> None:
    write(home, "credentials", "aws_secret_access_key = hidden-value\n")
    with pytest.raises(UserError, match="credentials") as caught:
        find_credentials(None, environ_of(home))
    assert "hidden-value" not in str(caught.value)


def test_no_secret_in_a_repr(home: Path) -> None:
    write(home, "credentials", CREDENTIALS)
    settings = find_settings("ocean", environ_of(home))
    for text in (repr(settings), str(settings), f"{settings.credentials!r}"):
        assert "ocean-id" in text
        assert "ocean-secret" not in text
        assert "ocean-token" not in text
