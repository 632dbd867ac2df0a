"""Where documents come from, and the port that fetches them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from jobs.documents.document import Document, KnownRecords
from jobs.errors import PermanentError, TransientError
from jobs.instants import DateOrder
from jobs.intake.columns import ColumnMappingError, check_mapping
from jobs.intake.dialect import FileOptions, parse_delimiter
from jobs.intake.formats import check_encoding
from jobs.rejection import Rejected

if TYPE_CHECKING:
    from jobs.documents.reading import OnNote  # reading loads feedparser, and commands load this module


class SourceDownError(TransientError):
    """A source does not answer, or not in time: it may later."""

    code = "source_down"


class SourceRefusedError(PermanentError):
    """A source that cannot be read as it is, or that is hostile."""

    code = "source_refused"


def _no_setting(name: str) -> str:
    if name.upper().startswith("PRESSROOM_"):
        raise ValueError(
            f"{name} is a setting of Pressroom itself, with access to everything: set a variable of another "
            "name to the URL or secret that is meant"
        )
    return name


Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(_no_setting)]
"""Name of an environment variable where the URL is used; a URL that is given in its place is refused."""


class WebPlace(BaseModel):
    """Where HTTP requests go: a URL as it is, or the variable that holds one with a key in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(default=None, pattern=r"^https?://")
    """It stands in Postgres as it is given."""
    url_variable: Variable | None = None
    """Read at each use; of what it holds nothing is stored or logged, and messages say the host alone."""
    allow_private: bool = False
    """Addresses of one's own network are refused unless this is set."""

    @model_validator(mode="after")
    def _one_url(self) -> Self:
        if (self.url is None) == (self.url_variable is None):
            raise ValueError("give either url, or url_variable: the environment variable that holds it")
        return self


_FOUND = frozenset({"delimiter", "encoding", "date_order"})


class FilesPlace(BaseModel):
    """Where files of documents lie."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delimiter: Annotated[str, AfterValidator(parse_delimiter)] | None = None
    """Of the files that are CSV; None is found in each, as the encoding of a text is."""
    encoding: Annotated[str, AfterValidator(check_encoding)] | None = None
    columns: Mapping[str, str] = {}
    """A document's fields whose columns have none of the usual names, and those columns: of every file there,
    so one that lacks them is refused, and feeds are none of these files."""
    date_order: DateOrder | None = None
    """Which number of 12/1/2026 is the month: day-first or month-first; None: what the whole column tells."""

    @model_serializer(mode="wrap")
    def _as_given(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Without what is found in each file, unless it was given."""
        fields: dict[str, object] = serialize(self)
        return {name: value for name, value in fields.items() if name not in _FOUND or value is not None}

    @property
    def file_options(self) -> FileOptions:
        """How the files are read."""
        return FileOptions(delimiter=self.delimiter, encoding=self.encoding)

    @field_validator("columns")
    @classmethod
    def _are_fields(cls, columns: Mapping[str, str]) -> Mapping[str, str]:
        try:
            check_mapping(columns)
        except ColumnMappingError as error:
            raise ValueError(str(error)) from error
        return columns


class FileSource(FilesPlace):
    """A file on the worker's machine: CSV, JSONL, Parquet or RSS; or every such file of a folder."""

    type: Literal["file"] = "file"
    path: str


class PrefixSource(FilesPlace):
    """Objects below a prefix of Pressroom's own store, or of another bucket."""

    type: Literal["s3"] = "s3"
    prefix: str
    url_variable: Variable | None = None
    """Name of an environment variable of the worker that holds another store's URL; never the URL itself."""
    allow_private: bool = True
    """Such a store is often in one's own network; set it to false where sources are other people's."""


class FeedSource(WebPlace):
    """An RSS or Atom feed; a variable is one of the worker."""

    type: Literal["feed"] = "feed"


class QuerySource(BaseModel):
    """Rows of a Postgres query whose columns are those of a document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["query"] = "query"
    url_variable: Variable
    """Name of an environment variable of the worker that holds the database's URL."""
    allow_private: bool = True
    """Databases are usually in one's own network; set it to false where sources are other people's."""
    sql: str


Source = Annotated[FileSource | PrefixSource | FeedSource | QuerySource, Field(discriminator="type")]


class Sources(Protocol):
    """Reads sources; blocks. Any thread may call it."""

    def fetch(
        self, source: Source, known: KnownRecords | None = None, on_note: OnNote | None = None
    ) -> Iterator[Document | Rejected]:
        """Stream what the source holds now, but for records that are known; notes are for people.

        Raises SourceDownError, SourceRefusedError, or FileRejectedError for a file that is no use as a whole.
        """
        ...
