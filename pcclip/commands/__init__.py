"""The tool commands of `pcclip`: one dataclass each, whose fields are the options. What they do is in `pcclip.tools`.

Importing them is cheap: what is heavy is imported when a command runs.
"""
