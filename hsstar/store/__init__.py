"""Postgres: the tables, their sessions and the queries. Knows the domain; knows no engine."""
