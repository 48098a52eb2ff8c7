"""Nested cross-validation by patient: folds, choices inside them, and what came out."""
