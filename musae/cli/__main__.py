"""`python -m musae.cli` is `musae`."""

from musae.cli import main

main()
