"""One machine: the embedded engine and the composition root of `logstream up`."""
