"""The Python interface: what the command line does, and the rows as data frames. `hsstar` names its parts."""
