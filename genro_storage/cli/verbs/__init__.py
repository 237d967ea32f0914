"""The commands, a few to a module; each module names its own in `VERBS`."""
