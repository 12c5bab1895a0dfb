"""Fixtures that all tests share."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real flights and maps; the test is skipped where they are not."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real data in ../shared/data beside the repository are not there")
    return SHARED_DATA
