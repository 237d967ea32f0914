"""One database of every layout of sessions that was released."""
