"""Glue: one Lightning callback per automation."""
