"""What depends on the operating system, and what is done where a system lacks it; the rest of the program asks here.

Linux has all of it, macOS most, and Windows neither `fork` nor `poll`, neither `fcntl` nor `resource`.
"""
