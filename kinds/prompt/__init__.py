"""The prompt kind, which sends each row of a table through a prompt template and adds new columns."""
