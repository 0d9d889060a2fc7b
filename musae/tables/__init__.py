"""The tables of a published study of MusicGen, re-run on any sweep: see README.md."""
