"""The server and the navigation; nothing else."""

from pathlib import Path

import streamlit as st

from lnres.ui import server

ASSETS = Path(__file__).parent / "assets"
# Files of pages/ and their titles, in the order of the navigation; the first opens at / too. (Streamlit would
# write a docstring here onto every page.)
PAGES = {
    "lab": "Lab",
    "microscope": "Microscope",
    "flow": "Flow",
    "theory": "Theory",
    "lessons": "Lessons",
    "claims": "Claims",
    "papers": "Papers",
}

if __name__ == "__main__":  # Streamlit runs this file as the script of every session ...
    st.set_page_config("lnres", ASSETS / "icon.svg", layout="wide", initial_sidebar_state=350)
    st.logo(ASSETS / "logo.svg", size="large", icon_image=ASSETS / "icon.svg")
    first, *_ = PAGES
    pages = [
        st.Page(
            f"pages/{name}.py",
            title=title,
            url_path="start" if name == first else name,
            default=name == first,
        )
        for name, title in PAGES.items()
    ]
    # A default page answers at / alone, so that the first has a second, hidden address.
    named = st.Page(f"pages/{first}.py", title=PAGES[first], url_path=first, visibility="hidden")
    st.navigation([*pages, named], position="top").run()
else:  # ... and `streamlit run app.py` imports it once as the server
    app = st.App(__file__, routes=server.routes(), lifespan=server.lifespan)
