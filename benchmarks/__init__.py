"""Measurements that take longer than tests. Nothing here is part of the package."""
