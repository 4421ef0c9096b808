"""From the log into ClickHouse, exactly once."""
