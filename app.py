"""The server and the navigation; nothing else."""

from pathlib import Path

import streamlit as st

from lnres.ui import server

ASSETS = Path(__file__).parent / "assets"

if __name__ == "__main__":  # Streamlit runs this file as the script of every session ...
    st.set_page_config("lnres", ASSETS / "icon.svg", layout="wide", initial_sidebar_state=350)
    st.logo(ASSETS / "logo.svg", size="large", icon_image=ASSETS / "icon.svg")
    lab = {"page": "pages/lab.py", "title": "Lab"}
    named = st.Page(**lab, url_path="lab", visibility="hidden")  # a default page answers at / alone
    st.navigation([st.Page(**lab, url_path="start", default=True), named]).run()
else:  # ... and `streamlit run app.py` imports it once as the server
    app = st.App(__file__, routes=server.routes(), lifespan=server.lifespan)
