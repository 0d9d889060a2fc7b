"""Settings that every test shares."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models: threads only get in each other's way
os.environ.setdefault("HF_HUB_OFFLINE", "1")
