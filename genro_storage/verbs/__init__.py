"""One module per node verb that is longer than a line; each takes the node and returns what the verb returns."""
