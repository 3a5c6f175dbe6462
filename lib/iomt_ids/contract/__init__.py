"""What the data means. Imports nothing of ours, reads nothing, needs no session."""
