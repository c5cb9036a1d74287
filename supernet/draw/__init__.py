"""Figures as SVG texts, and the units in which numbers are shown."""
