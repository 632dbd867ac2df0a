"""`pressroom terms`: list the recorded terms."""

from __future__ import annotations

from pressroom.commands.options import Json
from pressroom.commands.session import connected
from pressroom.console import print_json, print_line


def terms(json: Json = False) -> None:
    """List the terms that batches have noted, the most frequent first."""
    from sqlalchemy import select

    from db import migrate
    from glossary.tables import TermRow

    with connected() as (database, _, _):
        migrate.upgrade(database)
        with database.connect() as connection:
            rows = connection.execute(
                select(TermRow.term, TermRow.number).order_by(TermRow.number.desc(), TermRow.term)
            ).all()
    if json:
        print_json({"terms": [{"term": term, "number": number} for term, number in rows]})
        return
    for term, number in rows:
        print_line(f"{number:>6}  {term}")
