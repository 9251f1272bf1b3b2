"""The database of the golden run."""

from tests.store.conftest import make_database, server_url, template

__all__ = ["make_database", "server_url", "template"]  # fixtures
