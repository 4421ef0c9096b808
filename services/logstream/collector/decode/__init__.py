"""Decoders: `bytes → Decoded`, one file a protocol, no I/O."""
