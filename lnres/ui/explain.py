"""What the choices mean: name, formula, one sentence, paper and code, all from the registries."""

import streamlit as st

from lnres.experiment import FIELDS
from lnres.registry import Choice

KINDS = {
    spec.metadata["label"]: spec.metadata["registry"]
    for spec in FIELDS.values()
    if "registry" in spec.metadata
}
"""Every registry that an experiment picks from, by what the controls call it."""


def row(choice: Choice) -> None:
    """One option."""
    paper = f" &nbsp; :gray[{choice.paper}]" if choice.paper else ""
    st.markdown(f"**{choice.label}**{paper}  \n{choice.about}")
    if choice.formula:
        st.latex(choice.formula)
    try:
        code = choice.code
    except TypeError:
        return  # it is data
    with st.expander("code"):
        st.code(code, "python")


def explain() -> None:
    """A button that opens what can be chosen, one kind at a time."""
    page = st.popover("What do these mean?", width="stretch", key="explain", on_change="rerun")
    if not page.open:  # drawing formulas and sources would slow every rerun
        return
    with page:
        st.markdown(
            "A block of the stream: $\\;y=\\mathrm{after}(\\mathrm{skip}(x,\\,F(\\mathrm{before}(x))))$"
        )
        kind = st.selectbox("Kind", list(KINDS), key="explained", format_func=str.capitalize)
        for name in KINDS[kind]:
            row(KINDS[kind][name])
