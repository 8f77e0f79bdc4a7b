"""The demo: the whole circle on an embedded twin, and its report."""
