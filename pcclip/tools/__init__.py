"""Use a trained model: one module for each tool command, and what they share."""
