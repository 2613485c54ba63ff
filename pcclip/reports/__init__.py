"""Charts and pages of results."""
