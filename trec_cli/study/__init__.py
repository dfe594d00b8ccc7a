"""Studies: many arms of one experiment, run stage by stage and compared in one table.

A study only writes command lines and starts them; whatever a number depends on can be
repeated by hand with the five commands.
"""
