"""trueup keeps the guests of a Proxmox VE cluster at their declared state, and never loses track of a mutation."""

__version__ = "0.1.0"
