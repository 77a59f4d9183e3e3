"""The screen: what the browser sees and how it is fed."""
