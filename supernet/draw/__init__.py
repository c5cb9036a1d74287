"""Figures, as SVG texts."""
