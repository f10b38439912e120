"""What runs on the worker's threads: a class for each thread, and what it is made of."""
