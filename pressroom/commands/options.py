"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Out = Annotated[Path, typer.Option("--out", "-o", file_okay=False, help="Folder for the results.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda:N, or several with commas.")]
BatchArgument = Annotated[UUID, typer.Argument(metavar="BATCH")]
