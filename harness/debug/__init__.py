"""Where a variant loses accuracy: tensors and weights by SQNR, nodes by their sensitivity, and which of them to exclude."""
