"""What `musae new` writes: working files, with ``my_method``, ``MyMethod`` and ``my_task`` in place of names."""
