"""Functions that all HTML pages share: reading a part from a package, and the content security policy."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def page_part(package: str, name: str) -> str:
    """Return the text of a file in a package's folder of pages."""
    return (files(package) / "pages" / name).read_text(encoding="utf-8")


def page_policy(style: str, script: str = "") -> str:
    """Return a Content-Security-Policy that allows only the page's style and script, by their digests."""
    scripts = f"script-src {_source(script)}; " if script else ""
    return (
        f"default-src 'none'; style-src {_source(style)}; {scripts}"
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
