"""ClickHouse: the block format, the schema and its migrations, inserts. Reading is `logstream.query`."""
