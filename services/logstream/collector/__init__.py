"""HTTP in, the log out: decode, check, encode once, answer 202 when it is durable."""
