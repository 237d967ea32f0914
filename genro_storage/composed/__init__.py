"""Mount types that stand on other mounts, which are handed to them."""
