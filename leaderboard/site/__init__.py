"""The board as a static site: one folder that opens from disk, without a server and without a network.

``index.html`` is the board; everything else stands under ``site/``: a page per cell, per neuron card and per task, the
models beside each other, and the scripts and styles, of which two are libraries that are shipped (``vendor/``).
"""
