"""The kind's table of terms."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, mapped_column

from db.tables import Base


class TermRow(Base):
    """A term, and how often it has been recorded in all batches together."""

    __tablename__ = "glossary_terms"

    term: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int]
