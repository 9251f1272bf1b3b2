"""Alembic migrations: the tables and views of the database, in SQL."""
