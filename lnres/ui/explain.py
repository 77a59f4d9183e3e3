"""What the choices mean: name, formula, one sentence, paper and code, all from the registries."""

import streamlit as st

from lnres.blocks import PLACEMENTS
from lnres.norms import NORMS
from lnres.registry import Choice
from lnres.residuals import RESIDUALS


def row(choice: Choice) -> None:
    """One option."""
    paper = f" &nbsp; :gray[{choice.paper}]" if choice.paper else ""
    st.markdown(f"**{choice.label}**{paper}  \n{choice.about}")
    if choice.formula:
        st.latex(choice.formula)
    if isinstance(choice.make, type):
        with st.expander("code"):
            st.code(choice.code, "python")


def explain() -> None:
    """A button that opens the norms, their places and the skips."""
    page = st.popover("What do these mean?", width="stretch", key="explain", on_change="rerun")
    if not page.open:  # drawing two dozen formulas and sources would slow every rerun
        return
    with page:
        st.markdown(
            "A block of the stream: $\\;y=\\mathrm{after}(\\mathrm{skip}(x,\\,F(\\mathrm{before}(x))))$"
        )
        titles = {"Norms": NORMS, "Places": PLACEMENTS, "Skips": RESIDUALS}
        for tab, registry in zip(st.tabs(list(titles)), titles.values(), strict=True):
            with tab:
                for name in registry:
                    row(registry[name])
