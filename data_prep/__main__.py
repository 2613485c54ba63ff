"""`python -m data_prep`, the same as `pcclip-data`."""

from data_prep.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
