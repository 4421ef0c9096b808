"""Dead letters that can be worked with: found, looked into, replayed exactly once, discarded. See docs/deadletters.md.

A letter's state is not stored beside it but written behind it, on the same partition of the dead-letter topic, as
*dispositions* (`format`). Whoever reads the topic comes to the same state (`index`), on either bus and in any number of
processes. `box` follows the topic, `search` finds letters, `replay` and `edit` send them again, `tally` counts.
"""
