"""Configuration of Sphinx for the site: `make docs` builds it from the pages in docs/."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from supernet.base.version import __version__  # noqa: E402 -- the path is set above

project = "supernet"
author = "the authors of supernet"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton", "directives"]
exclude_patterns = ["site"]

# Pages are Markdown as GitHub reads it; headings have GitHub's anchors.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

napoleon_google_docstring = True
napoleon_use_ivar = True
add_module_names = False
toc_object_entries_show_parents = "hide"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"ignore-module-all": True}  # a name has its page where it is defined
python_maximum_signature_line_length = 88
nitpicky = True
# Names in signatures are those of the source: torch, numpy and private names have no page here.
nitpick_ignore_regex = [("py:.*", r"(?!supernet\.).*"), ("py:.*", r"supernet\..*\.(_\w+|[A-Z])")]
# Docstrings name errors and types by their short names, which several modules may have.
suppress_warnings = ["ref.python"]

html_theme = "furo"
html_title = "supernet"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
# Prompts and outputs are not copied with a command.
copybutton_exclude = ".linenos, .gp, .go"
linkcheck_timeout = 20
linkcheck_retries = 2
