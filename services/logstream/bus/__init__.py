"""The durable log between collector and processor: contract and record format.

`protocol` says what a bus does, `header` what a record on it looks like, `sqlite` is the embedded one.
"""
