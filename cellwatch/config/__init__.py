"""YAML becomes one frozen configuration, or an error that lists every problem with its place."""
