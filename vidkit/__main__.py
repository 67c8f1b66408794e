"""`python -m vidkit` is `vidkit`."""

from vidkit.cli.app import main

if __name__ == "__main__":
    main()
