"""One foreign thing each, behind a port: its errors are mapped and its data typed before they leave this floor."""
