"""Search, live tail and administration over HTTP."""
