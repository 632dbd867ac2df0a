"""Certificates for servers of the tests, made by openssl."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that signs itself, so that it is its own authority."""

    certificate: Path
    both: Path
    """With its key, for the server."""


def make_certificate(folder: Path, name: str = "localhost") -> Certificate:
    """For the name alone, valid for two days; skips the test where there is no openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("makes its certificate with openssl")
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    both = folder / f"{name}-both.pem"
    both.write_text(key.read_text() + certificate.read_text())
    return Certificate(certificate, both)
