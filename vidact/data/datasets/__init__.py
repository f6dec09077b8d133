"""List the clips of a data set: class folders, CSV tables, HMDB51, J-HMDB, UCF101 and Kinetics."""
