"""An example plug-in: a method, a task, a corpus, a generator and a suite of them, one module each; and one broken method."""
