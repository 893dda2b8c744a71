"""Configuration of the documentation: `make docs` builds it, warnings are errors."""

import re

import sobolax

project = "sobolax"
author = "The sobolax developers"
release = sobolax.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
html_theme = "furo"
html_title = f"sobolax {release}"
html_copy_source = False
templates_path: list[str] = []

# Pages are written for GitHub's Markdown: formulas between dollars, links to headings.
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # the text states shapes, which say more than `jax.Array`
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
napoleon_use_rtype = False

_QUOTED = re.compile(r"(?<!`)`([^`]+)`(?!`)(?=(\w?))")


def _quote_code(app, what, name, obj, options, lines: list[str]) -> None:
    """Docstrings quote code as Markdown does, in single backticks; here it takes two."""

    def quote(found: re.Match) -> str:
        # A word that goes on after the code, as in `vmap`ped, needs an invisible gap.
        return f"``{found[1]}``" + ("\\ " if found[2] else "")

    lines[:] = _QUOTED.sub(quote, "\n".join(lines)).split("\n")


def setup(app) -> None:
    """Registers what is above with Sphinx."""
    app.connect("autodoc-process-docstring", _quote_code, priority=100)
