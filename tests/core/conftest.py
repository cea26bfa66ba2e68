"""Fixtures of tests/core: the routes through the core, each of which runs the same cases."""

from __future__ import annotations

import pytest

from core.sequence import Route, open_route


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_target: run again for each instruction set by test_targets.py")


@pytest.fixture(scope="session")
def route(request: pytest.FixtureRequest) -> Route:
    """The route that a test names by indirect parametrisation: one of ROUTES."""
    return open_route(request.param)
