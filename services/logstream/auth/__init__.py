"""Who may do what: API keys, accounts, roles, streams. SQLAlchemy on SQLite or Postgres; the hot path reads memory."""
