"""The API server: what is read from it and written to it."""
