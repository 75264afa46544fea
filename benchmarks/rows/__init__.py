"""The rows of the table, by the module that measures them. Each has `measure(size) -> list[Figure]`."""

NAMES = ("journal", "recovery", "rotation", "passes", "apply", "gate", "manifests", "idle", "startup", "growth")
