"""Why a goal is missed, by the key of its row; only what was found out stands here."""

from typing import Final

REASONS: Final[dict[str, str]] = {}
