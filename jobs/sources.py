"""Sources of documents, and the port that reads them."""

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
    from jobs.documents.reading import OnNote  # it loads feedparser, which commands do not need


class SourceDownError(TransientError):
    """A source did not answer in time. A later attempt may succeed."""

    code = "source_down"


class SourceRefusedError(PermanentError):
    """A source cannot be read in its current state, or it is hostile."""

    code = "source_refused"


def _no_setting(name: str) -> str:
    if name.upper().startswith("PRESSROOM_"):
        raise ValueError(
            f"{name} is a setting of Pressroom itself, which may give access to all its data: use another "
            "variable for the URL or secret"
        )
    return name


Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$"), AfterValidator(_no_setting)]
"""Name of an environment variable of the process that uses the URL. A URL in place of the name is refused."""


class WebPlace(BaseModel):
    """Target of HTTP requests: a URL, or the environment variable with a URL that contains a key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str | None = Field(default=None, pattern=r"^https?://")
    """The URL itself. It is stored in Postgres unchanged."""
    url_variable: Variable | None = None
    """Name of the variable with the URL, which is read at each use. The URL is never stored or logged, and
    messages name only its host."""
    allow_private: bool = False
    """Whether addresses in private networks are allowed."""

    @model_validator(mode="after")
    def _one_url(self) -> Self:
        if (self.url is None) == (self.url_variable is None):
            raise ValueError("give either url or url_variable, the environment variable that contains it")
        return self


_FOUND = frozenset({"delimiter", "encoding", "date_order"})


class FilesPlace(BaseModel):
    """Location of files of documents, and how they are read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    delimiter: Annotated[str, AfterValidator(parse_delimiter)] | None = None
    """Delimiter of CSV files. Delimiter and encoding are detected in each file if they are None."""
    encoding: Annotated[str, AfterValidator(check_encoding)] | None = None
    columns: Mapping[str, str] = {}
    """Names of columns by field, for columns that have none of the usual names. The mapping applies to every
    file at this location except feeds; a file without these columns is refused."""
    date_order: DateOrder | None = None
    """Order of day and month in dates such as 12/1/2026. If None, it is detected from the whole column."""

    @model_serializer(mode="wrap")
    def _as_given(self, serialize: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Omit the options that are detected in each file if they were not given."""
        fields: dict[str, object] = serialize(self)
        return {name: value for name, value in fields.items() if name not in _FOUND or value is not None}

    @property
    def file_options(self) -> FileOptions:
        """Options for reading the files."""
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
    """A file on the worker's machine in CSV, JSONL, Parquet or RSS, or a folder of such files."""

    type: Literal["file"] = "file"
    path: str


class PrefixSource(FilesPlace):
    """Objects with a prefix in Pressroom's own store or in another bucket."""

    type: Literal["s3"] = "s3"
    prefix: str
    url_variable: Variable | None = None
    """Name of an environment variable of the worker that contains the URL of another store."""
    allow_private: bool = True
    """Whether the other store may be in a private network, as many are. Set this to false if other people
    define the sources."""


class FeedSource(WebPlace):
    """An RSS or Atom feed. `url_variable` is read from the worker's environment."""

    type: Literal["feed"] = "feed"


class QuerySource(BaseModel):
    """A Postgres query whose columns are those of a document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["query"] = "query"
    url_variable: Variable
    """Name of an environment variable of the worker that contains the URL of the database."""
    allow_private: bool = True
    """Whether the database may be in a private network, as most are. Set this to false if other people define
    the sources."""
    sql: str


Source = Annotated[FileSource | PrefixSource | FeedSource | QuerySource, Field(discriminator="type")]


class Sources(Protocol):
    """The port that reads sources. Calls block, and any thread may make them."""

    def fetch(
        self, source: Source, known: KnownRecords | None = None, on_note: OnNote | None = None
    ) -> Iterator[Document | Rejected]:
        """Stream the current documents of the source, without those whose records are already known.

        `on_note` receives messages for people. Raises SourceDownError, SourceRefusedError, or
        FileRejectedError for a file that is unusable as a whole.
        """
        ...
