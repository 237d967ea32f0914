"""HTTP for the object stores that are reached by plain requests: connections, answers, bodies, pages of keys."""
