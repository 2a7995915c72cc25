"""What came out: how far a variant's outputs are from fp32's, as a whole and in their worst part."""
