"""Write a small copy of a data set, for slow disks and small transfers (`vidact data transcode`)."""
