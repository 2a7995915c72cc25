"""What is measured when, and the journal of it."""
