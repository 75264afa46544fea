"""Frozen values that every other floor speaks in. No behaviour beyond checks, no I/O."""
