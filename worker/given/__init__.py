"""Settings as a user gives them, and what is said of wrong ones.

`worker` and `train` each have this package, byte for byte: neither may import the other, and both
must say the same of the same mistake. A test compares the two.
"""
