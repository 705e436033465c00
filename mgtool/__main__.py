"""`python -m mgtool` is `mgtool`."""

from mgtool.commands.entry import main

if __name__ == "__main__":
    main()
