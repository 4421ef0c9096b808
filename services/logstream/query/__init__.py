"""Questions to the store: filters as SQL and as predicates, reads of logs and statistics."""
