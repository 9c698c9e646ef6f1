"""The parts of `scripts/demo`.

What directs the demo (`cli`, `steps`, `place`, `commands`, `terminal`) needs the standard library
alone, and never touches the mount itself: it runs the commands that a user would type. `compare`
and `picture` are two of those commands, and can be used on other files as well.
"""
