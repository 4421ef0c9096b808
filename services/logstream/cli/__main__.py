"""`python -m logstream.cli` is the `logstream` command."""

from logstream.cli import main

main()
