"""A kind in one module: it lists the most frequent words of a text, and uses no model."""

from __future__ import annotations

import time
from collections import Counter

from pydantic import BaseModel, ConfigDict, Field

from jobs.errors import PermanentError
from jobs.kind import Artifact, Context, Kind, Result


class TallyPayload(BaseModel):
    """One row of a table. Error messages about a cell quote the description of its field."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(max_length=100_000, description="the text whose words are counted")
    top: int = Field(default=3, ge=1, le=100, description="how many words are listed, 1 to 100")


class TallySettings(BaseModel):
    """Settings of a batch, which are the same for all its rows."""

    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(default=0, ge=0, le=60, description="how long a job pretends to work")


class TallyKind(Kind[TallyPayload]):
    """Lists the most frequent words of each text."""

    name = "tally"
    version = "1"
    payload_type = TallyPayload
    settings_type = TallySettings

    def run(self, payload: TallyPayload, context: Context) -> Result:
        """Count the words of a text. A text without words fails permanently."""
        time.sleep(TallySettings.model_validate(context.settings).seconds)
        words = Counter(payload.text.lower().split())
        if not words:
            raise PermanentError("the text holds no word: write one", code="tally_empty")
        lines = [f"{word} {number}" for word, number in words.most_common(payload.top)]
        body = "\n".join(lines).encode() + b"\n"
        return Result(
            artifacts=(Artifact(name="tally.txt", media_type="text/plain", body=body),),
            metrics={"num_words": words.total(), "num_distinct": len(words)},
        )
