"""What users may query."""

from hsstar.store.database import Database
from hsstar.store.read.views import ViewDescription, describe_views


def list_views(database: Database) -> list[ViewDescription]:
    """Return the views of the schema with their purpose and columns."""
    with database.begin() as connection:
        return describe_views(connection)
