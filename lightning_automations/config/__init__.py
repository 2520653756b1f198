"""From YAML to settings."""
