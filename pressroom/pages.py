"""What all pages share: parts that are read from the folder of a kind, and the policy of a page."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files


def page_part(package: str, name: str) -> str:
    """A file of a package's folder of pages."""
    return (files(package) / "pages" / name).read_text(encoding="utf-8")


def page_policy(style: str, script: str = "") -> str:
    """A Content-Security-Policy that knows the page's style and script by digest and allows nothing else."""
    scripts = f"script-src {_source(script)}; " if script else ""
    return (
        f"default-src 'none'; style-src {_source(style)}; {scripts}"
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
