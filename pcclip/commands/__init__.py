"""The tool commands of `pcclip`: their options, and how they are run. What they do is in `pcclip.tools`."""
