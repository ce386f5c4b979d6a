"""What runs on a device: runtimes, timing, sensors, preprocessing.

Python >= 3.8, the standard library, numpy and the one runtime. Nothing of edgekit outside this package is imported
here, because the package is shipped to boards alone, as one zipapp (`edgekit/devices/zipapp.py`).
"""
