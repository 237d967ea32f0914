"""The tests of the README and of the pages below docs/."""
