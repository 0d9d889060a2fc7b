"""The regression gate behind `musae ci`: two checkouts, one device, correctness before speed.

`checkouts` finds or makes the two source trees, `worker` times the workloads of one of them in a process of its own, `pairs`
interleaves two workers, `decide` is the statistics, `gate` puts them together, and `reports` writes the files. `proof` measures
the gate itself: false alarms between equal checkouts, catches of a planted slowdown.
"""
