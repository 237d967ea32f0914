"""Sessions, conversations, checkpoints."""
