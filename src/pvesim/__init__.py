"""A simulator of the Proxmox VE API: it reproduces what PVE does, and answers 501 for the rest.

It shares no code with the agent it is used to test, so that both cannot share one misunderstanding of PVE.
"""
