"""Where people and machines come in: commands, HTTP, settings."""
