"""Where a monitor's documents come from, and the port that fetches them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from jobs.documents.document import Document
from jobs.errors import PermanentError, TransientError
from jobs.rejection import Rejected


class SourceDownError(TransientError):
    """A source does not answer, or not in time: it may later."""

    code = "source_down"


class SourceRefusedError(PermanentError):
    """A source that cannot be read as it is, or that is hostile."""

    code = "source_refused"


class FileSource(BaseModel):
    """A file on the worker's machine: CSV, JSONL, Parquet or RSS; or every such file of a folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["file"] = "file"
    path: str


class PrefixSource(BaseModel):
    """Objects below a prefix of Pressroom's own store, or of another bucket."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["s3"] = "s3"
    prefix: str
    url_variable: str | None = None
    """Name of an environment variable of the worker that holds another store's URL; never the URL itself."""


class FeedSource(BaseModel):
    """An RSS or Atom feed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["feed"] = "feed"
    url: str = Field(pattern=r"^https?://")
    allow_private: bool = False
    """Feeds of one's own network are refused unless this is set."""


class QuerySource(BaseModel):
    """Rows of a Postgres query whose columns are those of a document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["query"] = "query"
    url_variable: str
    """Name of an environment variable of the worker that holds the database's URL."""
    sql: str


Source = Annotated[FileSource | PrefixSource | FeedSource | QuerySource, Field(discriminator="type")]


class Sources(Protocol):
    """Reads sources; blocks. Any thread may call it."""

    def fetch(self, source: Source) -> Iterator[Document | Rejected]:
        """Stream everything the source holds now: what was read before is found out by its id and digest.

        Raises SourceDownError, SourceRefusedError, or FileRejectedError for a file that is no use as a whole.
        """
        ...
