"""A page that is left open does not grow: three minutes stand for the half hour of ``bench memory``."""

import pytest

from tests.bench.memory import memory

pytestmark = pytest.mark.slow
pytest.importorskip("playwright.sync_api")


def test_a_page_that_plays_for_three_minutes_hardly_grows():
    """From second 60 to second 180: what is recorded grows until it is thinned, and nothing else."""
    grew = memory(3.0)["grew"]
    assert grew["page_mb"] < 30
    assert grew["heap_mb"] < 4
    assert grew["listeners"] < 100
