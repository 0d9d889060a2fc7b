"""Steering: what a direction of the stream causes in the music that is generated.

`interventions` (what is done to the stream), `pitch`, `spectra`, `lessons`, `timbre`, `register` and `ears` (what is measured of
audio), `quality` (whether it is still music), `concepts` (what is steered towards), `reference` (frames with labels, from which
candidates are drawn), `continuations` (generated, heard, kept on disk), `effects` (paired differences and their intervals),
`experiment` (development, then fresh continuations), `paper_rule` (success by CLAP), `report` and `sheet` (scores, table, WAVs,
spectrograms).
"""
