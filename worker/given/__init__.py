"""What a user gives, settings and a checkpoint, and how what is wrong with it is worded.

`ends.py` is what both programs do to a model, so that neither fails where the other does not.

`train/given` is a link to this folder: neither program may import the other, both must say the same
of the same mistake, and two copies would drift. So its modules import one another relatively, and
nothing else of either program.
"""
