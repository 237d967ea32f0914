"""The parts of the SQLite store: its file, the threads that serve it, and what they do there."""
