"""Tests of the temporary files, most of them with real processes."""
