"""`python -m zarrfuse`: the same program as the `zarrfuse` command."""

from zarrfuse.cli.main import main

if __name__ == "__main__":
    main()
