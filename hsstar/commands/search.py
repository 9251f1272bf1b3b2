"""`hsstar db index-text`: a faster search in the statements of problems."""

from hsstar.store import search
from hsstar.store.database import Database


def index_text(database: Database, *, drop: bool = False) -> bool:
    """Make the index of statements, or drop it; return False if nothing was to do.

    Raise ConflictError if this Postgres lacks the extension for it, or this login the right to create it.
    """
    with database.begin() as connection:
        if drop:
            return search.drop_statement_index(connection)
        return search.add_statement_index(connection)
