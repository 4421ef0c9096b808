"""`python -m logstream_operator`."""

import sys

from logstream_operator.run import main

sys.exit(main())
