"""What torch is asked to do while a user's own program runs: its calls with their places, and programs made from them."""
