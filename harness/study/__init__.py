"""study.toml: what was asked, checked."""
