"""Tests of the movement of bytes."""
