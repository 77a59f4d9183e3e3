"""Pages without a browser: each is run in this process and says what it would show."""

from functools import cache
from pathlib import Path

from streamlit.components.v2 import manifest_scanner  # noqa: TID251  the screen is what is tested here
from streamlit.testing.v1 import AppTest  # noqa: TID251

ROOT = Path(__file__).parents[1]

# Whenever a page is opened, Streamlit looks for components in all that is installed.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)


def opened(path: str = "pages/lab.py", **query) -> AppTest:
    """A page as a link opens it."""
    page = AppTest.from_file(str(ROOT / path), default_timeout=60)
    page.query_params.update(query)
    return page.run()
