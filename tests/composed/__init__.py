"""Tests of the mounts that stand on other mounts."""
