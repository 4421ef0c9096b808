"""What a stream has outside of Kubernetes: accounts, topics, tables. Each step reads the real state first and writes
differences only."""
