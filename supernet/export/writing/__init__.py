"""A network written as Python code."""
