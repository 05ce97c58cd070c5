"""Sphinx: these documents as a site. ``sphinx-build -W docs docs/_build``."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx

_package = Path(__file__).parent.parent / "django_turbosmtp"
_code = (_package / "__init__.py").read_text("utf-8")
_found = re.search(r'^__version__ = "(.+)"$', _code, re.MULTILINE)

project = "django-turbosmtp"
version = release = _found[1] if _found else ""
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
nitpicky = True
# Quotes stand as they are typed: most are Python.
smartquotes = False
highlight_language = "none"

_logger = logging.getLogger(__name__)
#: Files beside the README that are also pages of the documentation.
_PAGES = {"CHANGELOG": "changelog", "README": "index", "LICENSE": "licence"}


def link_documents(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Let links to files lead to the pages made of them.

    In the sources they are names of files (``settings.rst#system-checks``), so that
    they lead somewhere on the site that hosts the repository as well.
    """
    for reference in doctree.findall(nodes.reference):
        target = reference.get("refuri", "")
        path, mark, anchor = target.partition("#")
        name, _, kind = posixpath.basename(path).partition(".")
        if ":" in target or (kind != "rst" and name not in _PAGES):
            continue
        page = _PAGES.get(name, name)
        if page not in app.env.found_docs:
            _logger.warning("no document: %s", target, location=reference)
            continue
        uri = app.builder.get_relative_uri(docname, page)
        reference["refuri"] = uri + mark + anchor


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the above."""
    app.connect("doctree-resolved", link_documents)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
