"""What `screen` cuts off difference texts and why it rejects them: small functions, one file per kind."""
