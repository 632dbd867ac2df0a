"""`python -m pressroom`."""

from pressroom.cli import main

if __name__ == "__main__":
    main()
