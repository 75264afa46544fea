"""Thin loops: ask core, call a port, feed the answer back. Every await here is a port call, and a place to die."""
