"""study.toml: read and checked."""
