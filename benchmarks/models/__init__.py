"""Models as papers have them, small and with random weights, and what jvp finds of them."""
