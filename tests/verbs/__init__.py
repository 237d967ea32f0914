"""Tests of the node verbs that are longer than a line."""
