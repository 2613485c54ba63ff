"""The embedded world: small pictures with known attributes, and texts about them."""
