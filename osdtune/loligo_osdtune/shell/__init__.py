"""What meets the outside: librados, /proc and /sys, files, the terminal. Reads only; decides nothing."""
