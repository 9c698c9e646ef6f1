"""The suite is a module of its own, and its assertions shall explain themselves all the same."""

import pytest

pytest.register_assert_rewrite("tests.contract.store.suite")
