"""Limits of logins that fail; all other limits are in `model.limits`, and what they have in common is said there."""

from typing import Final

TRIES: Final = 5
"""Wrong tokens in a row from one source; from then on it has to wait between two of them."""

WAIT_MAX_S: Final = 30.0
"""The longest such wait: guessing is slow, and whoever shares a proxy with somebody who guesses is not shut out."""

FORGOTTEN_S: Final = 600.0
"""After so long without a wrong token a source is like any other."""

SOURCES_MAX: Final = 1_000
"""Sources of wrong tokens that are remembered; then the one that failed longest ago is forgotten."""
