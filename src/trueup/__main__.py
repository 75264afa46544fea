"""`python -m trueup` is `trueup`."""

from trueup.app import main

if __name__ == "__main__":
    main()
