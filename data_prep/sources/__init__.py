"""Where captioned images come from: one module a kind of source, all with the same two functions (see `source.Source`)."""
