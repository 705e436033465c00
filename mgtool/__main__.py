"""`python -m mgtool` is `mgtool`."""

from mgtool.commands.main import main

if __name__ == "__main__":
    main()
