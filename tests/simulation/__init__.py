"""The whole agent and a simulated cluster in one process, on virtual time, with death at any point."""
