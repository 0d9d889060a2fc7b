"""`musae bench compile`: the Triton kernels, compiled ahead of time and judged without a GPU.

- `record`, `count`, `eager`, `interpreter`: ops run on Triton's interpreter; launches and bytes are recorded (one process);
- `build`, `sass`: exactly those launches are compiled and their machine code is read (another process);
- `traffic`, `report`, `gates`: bytes of a full batch, rows, and what they must satisfy;
- `run`: the whole of it.

Nothing here was run on a GPU: figures are read from machine code, or counted in the interpreter.
"""
