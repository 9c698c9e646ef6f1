"""The docs say what is: settings as the code has them, tests that exist, commands that parse."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`((?:unit|mount|contract|convert|swift|faults)/[\w./]*)(?:::(\w+))?`",
                   (ROOT / "docs/SEMANTICS.md").read_text())  # fmt: skip


def test_the_settings_page_is_the_code() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "scripts/settings-doc"], capture_output=True, text=True, check=True
    )
    assert (ROOT / "docs/SETTINGS.md").read_text() == made.stdout


def test_semantics_names_tests() -> None:
    assert len(NAMED) > 30


@pytest.mark.parametrize(("path", "test"), NAMED)
def test_what_semantics_names_exists(path: str, test: str) -> None:
    found = ROOT / "tests" / path
    assert found.exists(), path
    if test:
        assert re.search(rf"^\s*def {test}\b", found.read_text(), re.MULTILINE), test


def test_every_link_in_the_docs_leads_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
