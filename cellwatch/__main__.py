"""`python -m cellwatch` is the command line."""

from cellwatch.cli.main import main

if __name__ == "__main__":
    main()
