"""Alembic's scripts for the accounts database; `logstream.auth.migrate` runs them."""
