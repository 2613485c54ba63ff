"""The embedded world: small pictures with known, graded attributes, and everything that is said about them."""
