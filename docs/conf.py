"""Sphinx: `sphinx-build -W docs docs/_build`."""

from __future__ import annotations

import genro_storage

project = "genro-storage"
copyright = "the genro-storage authors"
release = version = genro_storage.__version__

extensions = ["sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "py:obj"  # `Name` in prose and docstrings is a link where the name is documented
highlight_language = "python"

html_theme = "furo"
html_title = f"genro-storage {version}"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
