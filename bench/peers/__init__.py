"""musae side by side with the libraries that its users would otherwise train and encode with.

`worker` runs one contestant in a process and an environment of its own; `*_sae` say how each library takes a training step and
encodes; `contestants` lists libraries and the settings that are tried; `comparison` runs interleaved rounds; `report` makes rows
and the table.
"""
