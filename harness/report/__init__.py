"""Tables and files for readers: one module per format."""
