"""The tools' command lines: one module a command, cheap to import; what they do is in `pcclip.tools`."""
