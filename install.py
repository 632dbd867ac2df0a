"""Installs Pressroom's pinned packages into the virtual environment that runs this: by uv, or else by pip.

uv resolves and unpacks many times as fast as pip does, but reads none of pip's settings: a mirror, a folder
of wheels, a certificate. They are handed on; where one has no counterpart, or uv fails, pip installs.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping

PROJECT = ".[engine,embedded,dev]"
PINS = ("--constraint", "constraints.txt")

UV_OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
    "constraint": "--constraint",
}
UV_VARIABLES = {"cert": "SSL_CERT_FILE", "client-cert": "SSL_CLIENT_CERT", "proxy": "ALL_PROXY"}
IRRELEVANT = {
    "cache-dir",
    "default-timeout",
    "disable-pip-version-check",
    "no-cache-dir",
    "no-color",
    "no-input",
    "progress-bar",
    "quiet",
    "require-virtualenv",
    "retries",
    "root-user-action",
    "timeout",
    "verbose",
}
"""Settings of pip that do not say what is installed, or from where."""


def main() -> int:
    """The exit status of what installed."""
    settings = pip_settings(_output("config", "list"))
    unknown = sorted(settings.keys() - UV_OPTIONS.keys() - UV_VARIABLES.keys() - IRRELEVANT)
    if unknown:
        print(f"pip is set up with {', '.join(unknown)}, which uv does not know: pip installs.")
    elif _install_by_uv(settings):
        return 0
    else:
        print("uv could not install; pip tries the same.")
    return _pip("install", "--quiet", *PINS, "--editable", PROJECT).returncode


def pip_settings(listed: str) -> dict[str, str]:
    """`pip config list` by option; pip takes the environment before [install], and that before [global].

    >>> pip_settings("global.find-links='/a'\\n:env:.find-links='/b /c'\\ninstall.index-url='https://x/simple'")
    {'find-links': '/b /c', 'index-url': 'https://x/simple'}
    """
    rank = {"global": 0, "install": 1, ":env:": 2}
    found: dict[str, tuple[int, str]] = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        place, _, option = key.rpartition(".")
        if place in rank and rank[place] >= found.get(option, (0, ""))[0]:
            found[option] = rank[place], " ".join(shlex.split(value))
    return {option: value for option, (_, value) in found.items()}


def uv_options(settings: Mapping[str, str]) -> list[str]:
    """Translate pip's settings for uv, which looks at every index, as pip does.

    >>> uv_options({"find-links": "/b /c", "timeout": "9"})
    ['--index-strategy', 'unsafe-best-match', '--find-links', '/b', '--find-links', '/c']
    """
    pairs = [
        (UV_OPTIONS[option], value)
        for option, values in settings.items()
        if option in UV_OPTIONS
        for value in values.split()
    ]
    return ["--index-strategy", "unsafe-best-match", *(part for pair in pairs for part in pair)]


def _install_by_uv(settings: Mapping[str, str]) -> bool:
    if _pip("install", "--quiet", *PINS, "uv").returncode != 0:
        return False
    variables = {UV_VARIABLES[name]: value for name, value in settings.items() if name in UV_VARIABLES}
    command = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--compile-bytecode"]
    options = [*uv_options(settings), *PINS, "--editable", PROJECT]
    if not sys.stderr.isatty():
        options.append("--quiet")
    return subprocess.run([*command, *options], env={**variables, **os.environ}).returncode == 0


def _pip(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments])


def _output(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
