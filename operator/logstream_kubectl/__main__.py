"""`python -m logstream_kubectl`."""

from logstream_kubectl import main

main()
