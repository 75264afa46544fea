"""The heart: pure decisions. Values in, verdict out; no clock, no I/O, no randomness, no logging."""
