"""The agent's own HTTP. Everything here is for machines and people that look at the agent from outside."""
