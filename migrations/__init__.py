"""Alembic migrations of the schema in `hsstar.store.schema`."""
