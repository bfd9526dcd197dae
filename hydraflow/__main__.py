"""`python -m hydraflow`."""

from hydraflow.cli import main

if __name__ == "__main__":
    main()
